"""export: what is asked for, the file of the disk, and the variables that Terraform gets."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.cli import disk_file, terraform
from stelae.testing.answers_export import EXPORTED_IMAGE, RAW
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
DISK = EXPORTED_IMAGE["disk"]


def plain(ran: Any) -> str:
    assert (ran.code, ran.err) == (0, "")
    return str(ran.out)


def test_what_an_environment_serves(stelae: Stelae, service: FakeService) -> None:
    shown = plain(stelae("export", "production"))
    assert ("export", ("guestbook/production",)) in service.calls
    for part in (
        EXPORTED_IMAGE["image"],
        EXPORTED_IMAGE["places"][0]["name"],
        DISK["digest"],
        DISK["raw"],
        "3f9c1e2",
    ):
        assert part in shown
    told = json.loads(plain(stelae("export", "production", "--json")))
    assert told == {**EXPORTED_IMAGE, "disk": {**DISK, "file": None}}


def test_an_image_without_a_disk(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    service.answers["export"] = {**EXPORTED_IMAGE, "disk": None}
    assert "none was made" in plain(stelae("export", "production"))
    assert json.loads(plain(stelae("export", "production", "--terraform", "-")))["stelae"]["disk"] is None
    ran = stelae("export", "production", "--disk", str(tmp_path / "a.raw"))
    assert (ran.code, "--artifact disk" in ran.err) == (2, True)


def test_a_raw_disk_has_its_digest_and_its_holes(stelae: Stelae, tmp_path: Path) -> None:
    path = tmp_path / "guestbook.raw"
    told = json.loads(plain(stelae("export", "production", "--disk", str(path), "--json")))
    assert path.read_bytes() == RAW
    assert path.stat().st_blocks * 512 < len(RAW)
    assert told["disk"]["file"] == {"path": str(path), "format": "raw", "digest": DISK["raw"]}
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".guestbook")] == []


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img")
def test_a_qcow2_holds_the_same(stelae: Stelae, tmp_path: Path) -> None:
    path, back = tmp_path / "guestbook.qcow2", tmp_path / "back.raw"
    told = json.loads(plain(stelae("export", "production", "--disk", str(path), "--json")))
    assert told["disk"]["file"]["format"] == "qcow2"
    subprocess.run(["qemu-img", "check", "-q", path], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, back], check=True)
    assert back.read_bytes()[: len(RAW)] == RAW


def test_without_qemu_img_nothing_is_fetched(
    stelae: Stelae, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_file.shutil, "which", lambda _: None)
    ran = stelae("export", "production", "--disk", str(tmp_path / "a.qcow2"))
    assert (ran.code, "qemu-utils" in ran.err) == (2, True)
    assert not any(name in ("export", "disk") for name, _ in service.calls)


@pytest.mark.parametrize("name", ["a.iso", "a"])
def test_a_name_that_says_no_format(stelae: Stelae, service: FakeService, tmp_path: Path, name: str) -> None:
    assert stelae("export", "production", "--disk", str(tmp_path / name)).code == 2
    assert not any(called == "export" for called, _ in service.calls)


def test_nothing_is_written_over(stelae: Stelae, tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_text("mine")
    ran = stelae("export", "production", "--disk", str(path))
    assert (ran.code, "written over" in ran.err, path.read_text()) == (2, True, "mine")


@pytest.mark.parametrize("wrong", ["compressed", "raw", "size"])
def test_what_is_not_the_disk_is_not_kept(stelae: Stelae, service: FakeService, tmp_path: Path, wrong: str) -> None:
    lines = copy.deepcopy(service.answers["disk"])
    lines[-1]["result"][wrong] = lines[-1]["result"]["size"] - 1 if wrong == "size" else "sha256:" + "0" * 64
    service.answers["disk"] = lines
    before = sorted(tmp_path.iterdir())
    ran = stelae("export", "production", "--disk", str(tmp_path / "a.raw"))
    assert (ran.code, "not what was sent" in ran.err) == (1, True)
    assert sorted(tmp_path.iterdir()) == before


def test_the_variables_are_written_again_and_have_no_other_name(stelae: Stelae, tmp_path: Path) -> None:
    path, disk = tmp_path / "stelae.auto.tfvars.json", tmp_path / "a.raw"
    path.write_text("of yesterday")
    plain(stelae("export", "production", "--disk", str(disk), "--terraform", str(path)))
    told = json.loads(path.read_text())["stelae"]
    assert told["image"] == {"digest": EXPORTED_IMAGE["image"], "reference": EXPORTED_IMAGE["places"][0]["name"]}
    assert (told["disk"]["file"], told["disk"]["file_digest"]) == (str(disk), DISK["raw"])
    assert told["disk"]["reference"] is None
    assert told["provenance"]["commit"] == EXPORTED_IMAGE["built"]["commit"]
    ran = stelae("export", "production", "--terraform", str(tmp_path / "stelae.json"))
    assert (ran.code, ".tfvars.json" in ran.err) == (2, True)


def test_another_builder_leaves_what_it_does_not_say_null() -> None:
    told = terraform.variables({**EXPORTED_IMAGE, "built": None, "disk": None})["stelae"]
    assert (told["provenance"]["commit"], told["provenance"]["digest"]) == (None, "sha256:" + "2" * 64)


def test_the_documented_block_has_just_these_attributes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "machines.md").read_text()
    (block,) = re.findall(r'^variable "stelae" \{\n(.*?)^\}', text, flags=re.MULTILINE | re.DOTALL)
    document = {**EXPORTED_IMAGE, "disk": {**DISK, "file": None}}
    assert _attributes(block[block.index("object(") :]) == _shape(terraform.variables(document)["stelae"])


def _shape(value: Any) -> Any:
    return {name: _shape(item) for name, item in value.items()} if isinstance(value, dict) else "value"


def _attributes(text: str) -> Any:
    """The attributes of Terraform's ``object({ … })``, however deep."""
    words = iter(re.findall(r"object\(\{|\}\)|[a-z_]+(?= *=)|string|number", text))
    assert next(words) == "object({"

    def read() -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (name := next(words)) != "})":
            found[name] = read() if next(words) == "object({" else "value"
        return found

    return read()


def test_the_pieces_are_what_the_answer_says() -> None:
    """The fake's disk is a real one."""
    from stelae.testing.answers_export import SENT_DISK

    blob = base64.b64decode(SENT_DISK[0]["progress"]["data"])
    assert len(blob) == SENT_DISK[-1]["result"]["bytes"]
