"""What QEMU tells of a machine, compared with how every machine is launched."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.platforms.vm.checks import differences
from stelae.platforms.vm.command import BLOCKS, CHANNELS, DEVICES


def child(name: str) -> dict[str, str]:
    return {"name": name, "type": f"child<{name}-device>"}


def answers() -> dict[str, Any]:
    """Return what the QEMU of a sound machine tells (QEMU 7.2)."""
    blocks = [
        {"qdev": name, "inserted": {"node-name": name, "ro": True, "file": file}} for name, file in BLOCKS.items()
    ]
    return {
        "query-status": {"running": True, "status": "running"},
        "query-block": blocks,
        "query-named-block-nodes": [
            {"node-name": node} for name in BLOCKS for node in (name, f"{name}-file")
        ],
        "query-chardev": [{"label": label} for label in CHANNELS],
        "query-migrate": {},
        "/machine/peripheral": [{"name": "type", "type": "string"}, *map(child, sorted(DEVICES))],
        "/machine/peripheral-anon": [{"name": "type", "type": "string"}],
        "/objects": [{"name": "type", "type": "string"}, child("random"), child("pc.ram")],
    }  # fmt: skip


def told(**changed: Any) -> list[str]:
    return list(differences(answers() | {name.replace("_", "-"): value for name, value in changed.items()}))


def test_a_sound_machine_is_told_as_sound() -> None:
    assert told() == []


def test_each_difference_is_told() -> None:
    sound = answers()
    disk = {"qdev": "disk", "inserted": {"node-name": "disk", "ro": False, "file": BLOCKS["disk"]}}
    other = {"qdev": "disk", "inserted": {"node-name": "disk", "ro": True, "file": "/run/other"}}
    assert told(query_status={"status": "paused"}) == ["its machine does not run: paused"]
    assert told(query_block=[disk]) == ["its machine has another disk: disk"]
    assert told(query_block=[other]) == ["its machine has another disk: disk"]
    assert told(query_block=[{"qdev": "cd"}]) == ["its machine has another disk: None"]
    assert told(query_migrate={"status": "active"}) == ["its machine is, or was, being copied elsewhere (migration)"]
    assert told(query_chardev=[*sound["query-chardev"], {"label": "spy"}]) == [
        "its machine has a channel that it was not launched with: spy"
    ]
    nodes = [*sound["query-named-block-nodes"], {"node-name": "#block1\x1b[2J"}]
    assert told(query_named_block_nodes=nodes) == [
        "its machine has a file that it was not launched with: #block1?[2J"
    ]


@pytest.mark.parametrize("path", ["/machine/peripheral", "/machine/peripheral-anon", "/objects"])
def test_what_was_plugged_in_or_taken_out_is_told(path: str) -> None:
    more = answers()
    more[path] = [*more[path], child("usb")]
    assert [text for text in differences(more) if text.endswith("not launched with: usb")]
    less = answers()
    less["/machine/peripheral"] = less["/machine/peripheral"][:-1]
    assert list(differences(less)) == [f"its machine lacks the device {max(DEVICES)}"]
