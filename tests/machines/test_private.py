"""What a machine is told is in no file of its host once it was started, and in no argument of a process."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.platforms.vm.command import PROGRAM
from stelae.testing.contract import Subject
from stelae.testing.contract_secrets import VALUES
from tests.machines.kit import MachineParts, make_disk
from tests.real.contract_parts import own_installation, run_on

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

TELLING = InstanceId("web-telling-1")


def test_no_value_of_a_secret_is_left_on_the_host(tmp_path: Path) -> None:
    async def body(subject: Subject) -> None:
        hand = subject.hand()
        assert subject.telling is not None
        await hand.launch(TELLING, subject.telling)
        emulators = [folder for folder in Path("/proc").glob("[0-9]*") if _is_ours(folder, f"{TELLING}")]
        assert len(emulators) == 1
        config = emulators[0] / "root/image/config"
        assert _holds(config.read_bytes()), "this test looks for the wrong bytes"
        assert stat.S_IMODE(config.stat().st_mode) == 0o400
        own = parts.installation
        found = [str(file) for file, data in _files(own.run, own.state) if _holds(data)]
        assert not found, found
        for name in ("cmdline", "environ"):
            assert not _holds((emulators[0] / name).read_bytes())
        await hand.act(Verb.KILL, TELLING)
        await hand.act(Verb.REMOVE, TELLING)
        assert await subject.left() == []
        assert not list((own.run / "instances").rglob("private"))

    disk = make_disk(tmp_path)
    with own_installation() as installation:
        parts = MachineParts(installation, tmp_path / "image.erofs", disk)
        run_on(parts, body)


def _holds(data: bytes) -> bool:
    return any(value in data for name, value in VALUES.items() if name in ("TEXT", "binary", "largest"))


def _files(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if stat.S_ISREG(path.lstat().st_mode) and not {"mounts", "netns"} & set(path.parts):
                yield path, path.read_bytes()


def _is_ours(folder: Path, name: str) -> bool:
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0] == PROGRAM.encode() and any(word.endswith(name.encode()) for word in words)
