"""Files without a name that the processes of a sandbox have open: they take room, and no folder shows them.

Source: proc(5), ``/proc/PID/fd``, ``fdinfo`` and ``mountinfo``. Only the file system at the root of a process counts:
what is in memory file systems is limited as memory.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_BLOCK = 512
_PROC = Path("/proc")


def unnamed(process: int) -> int:
    """Return the bytes on the disk of all such files of *process* and those it started, while they may change."""
    found: dict[tuple[int, int], int] = {}
    for pid in _family(process):
        with suppress(OSError, ValueError):  # it ended meanwhile
            root = _root_mount(pid)
            for opened in (_PROC / pid / "fd").iterdir():
                with suppress(OSError, ValueError):
                    state = opened.stat()
                    if stat.S_ISREG(state.st_mode) and not state.st_nlink and _mount_of(pid, opened.name) == root:
                        found[state.st_dev, state.st_ino] = state.st_blocks * _BLOCK
    return sum(found.values())


def _family(process: int) -> Iterator[str]:
    waiting = [str(process)]
    while waiting:
        pid = waiting.pop()
        yield pid
        with suppress(OSError):
            for task in (_PROC / pid / "task").iterdir():
                waiting += (task / "children").read_text().split()


def _root_mount(pid: str) -> str:
    """Return the id of the mount that *pid* has at its root."""
    lines = (_PROC / pid / "mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    return next((words[0] for words in map(str.split, reversed(lines)) if words[4] == "/"), "")


def _mount_of(pid: str, number: str) -> str:
    for line in (_PROC / pid / "fdinfo" / number).read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return value.strip()
    return ""
