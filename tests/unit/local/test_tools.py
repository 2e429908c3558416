"""Shells of images, and the tools that a session is lent."""

from __future__ import annotations

import os
import shutil
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from stelae.domain.errors import Failed
from stelae.platforms.local import tools
from stelae.platforms.local.tools import LENT_SHELL, lend, shell_of
from stelae.platforms.port import Shell
from stelae.system.installation import Installation


def program(path: Path, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"#!")
    path.chmod(mode)


def test_an_image_has_its_own_shell(tmp_path: Path) -> None:
    program(tmp_path / "usr/bin/dash")
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "usr/bin/sh").symlink_to("/bin/dash")
    assert shell_of(tmp_path, tools=False) == Shell(command=("/bin/sh",))
    program(tmp_path / "usr/bin/bash")
    assert shell_of(tmp_path, tools=False) == Shell(command=("/bin/bash",))


def test_what_is_no_program_of_the_image_is_no_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that lead out of the image, in a circle, nowhere; a file that cannot be run; a folder."""
    monkeypatch.setattr(tools, "_busybox", lambda: Path("/bin/busybox"))
    lent = Shell(command=(LENT_SHELL,), lent=True)
    root = tmp_path / "root"
    program(tmp_path / "sh")
    for target in ("../../sh", "../../../../../../../../bin/sh", str(tmp_path / "sh"), "sh", "nothing"):
        shutil.rmtree(root, ignore_errors=True)
        (root / "bin").mkdir(parents=True)
        (root / "bin/sh").symlink_to(target)
        assert shell_of(root, tools=False) == lent, target
    (root / "bin/sh").unlink()
    program(root / "bin/sh", mode=0o644)
    assert shell_of(root, tools=False) == lent
    (root / "bin/sh").unlink()
    (root / "bin/sh").mkdir()
    assert shell_of(root, tools=False) == lent


def test_without_a_shell_anywhere_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failed, match="this machine has none to lend") as raised:
        shell_of(tmp_path, tools=False)
    assert "busybox-static" in raised.value.hint
    for content in (b"#!/bin/sh\n", b"\x7fELF", Path(os.path.realpath(sys.executable)).read_bytes()):
        (tmp_path / "busybox").write_bytes(content)  # a script, a part of a program, one that needs libraries
        (tmp_path / "busybox").chmod(0o755)
        with pytest.raises(Failed):
            shell_of(tmp_path, tools=True)


@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox-static")
def test_what_is_lent_is_a_folder_of_programs_made_once(tmp_path: Path) -> None:
    made = Installation(
        name="st", state=tmp_path / "state", run=tmp_path / "run", subnet=IPv4Network("10.9.9.0/24"), http_port=1
    )
    (tmp_path / "run").mkdir()
    folder = lend(made)
    assert (folder / "sh").readlink() == Path("busybox")
    assert (folder / "ps").exists()
    assert folder.stat().st_mode & 0o777 == 0o755
    before = (folder / "busybox").stat().st_ino
    assert lend(made) == folder
    assert (folder / "busybox").stat().st_ino == before
    assert [path for path in folder.parent.iterdir() if path != folder] == []
