"""How instances ended: the files that conmon leaves, and a kernel watch that says when one appears.

conmon writes the exit status as decimal text, by rename, after it has written all output.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

from stelae.domain.observation import Exit
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.logs import last_texts
from stelae.platforms.local.place import Place

UNKNOWN_CODE = 255
"""The exit code of an instance whose own is not known: its conmon died before it."""

_KILLED = 128 + 9
_IN_MOVED_TO = 0x80
_HEADER = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, length of the name
_LIBC = ctypes.CDLL(None, use_errno=True)


def read_exit(place: Place, cgroups: Cgroups, *, fallback_at: int) -> Exit:
    """Return how the instance ended, from its files; code 255 at *fallback_at* when there is none."""
    try:
        code, at = int(place.exit.read_text()), place.exit.stat().st_mtime_ns // 1000
    except (FileNotFoundError, ValueError):
        code, at = UNKNOWN_CODE, fallback_at
    code = code if 0 <= code <= UNKNOWN_CODE else UNKNOWN_CODE
    starved = code == _KILLED and not place.killed.exists() and cgroups.oom_kills(place.cid) > 0
    return Exit(code=code, at=at, out_of_memory=starved, last_lines=last_texts(place.logs))


class ExitWatch:
    """Calls *appeared* with a container's id, from the running event loop, when its exit file appears."""

    def __init__(self, folder: Path, appeared: Callable[[str], None]) -> None:
        self._appeared = appeared
        self._loop = asyncio.get_running_loop()
        self._descriptor = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or _LIBC.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_MOVED_TO) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
        self._loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        data = os.read(self._descriptor, 65536)
        while data:
            *_, length = _HEADER.unpack_from(data)
            name = data[_HEADER.size : _HEADER.size + length].rstrip(b"\0")
            data = data[_HEADER.size + length :]
            if name:  # else the queue was full; the next regular look finds what was missed
                self._appeared(os.fsdecode(name))

    def close(self) -> None:
        """Stop watching."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
