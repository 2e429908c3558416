"""Tools for a debug session whose image has no shell: the machine's own busybox, in a folder that is mounted into it.

The folder has the program and a link for each of its applets; it is mounted read-only below ``/dev``, which every
instance has as a file system of its own, so that no image needs a mount point for it.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import tempfile
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.platforms.port import Shell
from stelae.system.command import run
from stelae.system.installation import Installation

POINT = "/dev/stelae"
"""Where a session finds what it was lent."""

SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh")
LENT_SHELL = f"{POINT}/sh"

_MOST_LINKS = 40
_PT_INTERP = 3


def shell_of(root: Path, *, tools: bool) -> Shell:
    """Return the shell of the image with this *root*, or the one that is lent; raises Failed when there is none."""
    own = next((path for path in SHELLS if _is_program(root, path)), "")
    if own and not tools:
        return Shell(command=(own,))
    _busybox()  # there is one
    return Shell(command=(own or LENT_SHELL,), lent=True)


def lend(installation: Installation) -> Path:
    """Return the folder of the tools, made when it is not there; raises Failed when the machine has none."""
    program = _busybox()
    found = program.stat()
    folder = installation.run / "tools" / f"{found.st_size:x}-{found.st_mtime_ns:x}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        shutil.copyfile(program, made / "busybox")
        (made / "busybox").chmod(0o755)
        for name in run([str(program), "--list"]).stdout.decode().split():
            if "/" not in name and name != "busybox":
                (made / name).symlink_to("busybox")
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        if folder.is_dir():  # another one was quicker
            return folder
        raise
    return folder


def _busybox() -> Path:
    """Return a busybox that runs in any image: one that needs no library; raises Failed."""
    found = shutil.which("busybox")
    if found is None or not _is_static(Path(found)):
        raise Failed(
            "the image has no shell, and this machine has none to lend",
            hint="install the package busybox-static, or give a command: stelae debug INSTANCE -- COMMAND",
        )
    return Path(found).resolve()


def _is_static(program: Path) -> bool:
    """True for a program of this machine that names no interpreter (the format is ELF, elf(5), 64 bit)."""
    with program.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:5] != b"\x7fELF\x02":
            return False
        (offset,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from("<I", table, size * number)[0] != _PT_INTERP for number in range(count))


def _is_program(root: Path, path: str) -> bool:
    """True when *path* is a program inside *root*; a link in it leads nowhere else."""
    left, there, links = path.split("/")[1:], root, 0
    while left:
        part = left.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            there = there if there == root else there.parent
            continue
        try:
            mode = (there / part).lstat().st_mode
        except OSError:
            return False
        if not stat.S_ISLNK(mode):
            there /= part
            continue
        links += 1
        target = os.readlink(there / part)  # noqa: PTH115 - the text itself
        there = root if target.startswith("/") else there
        left = target.split("/") + left
        if links > _MOST_LINKS:
            return False
    mode = there.lstat().st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)
