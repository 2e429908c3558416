"""Mounts by mount(2) and umount2(2) themselves.

util-linux's ``mount`` 2.38 silently takes a loop device where the kernel could mount the file, so it is not used.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    point: Path
    kind: str
    source: str


def mount(source: str | Path, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
    """Mount *source* of type *kind* at *target*; raises OSError with the kernel's errno."""
    result = _LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data) if data else None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: Path, flags: int = 0) -> None:
    """Unmount *target*; raises OSError with the kernel's errno (EINVAL: not a mount point)."""
    if _LIBC.umount2(os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def mounts_below(folder: Path) -> tuple[Mount, ...]:
    """Return every mount at or below *folder* in this mount namespace, in the order they were made."""
    prefix = str(folder).rstrip("/")
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        point = _unescape(fields.split(b" ")[4])
        if point == prefix or point.startswith(prefix + "/"):
            kind, source, *_ = rest.split(b" ")
            found.append(Mount(point=Path(point), kind=kind.decode(), source=_unescape(source)))
    return tuple(found)


def _unescape(text: bytes) -> str:
    """Undo the octal escapes (of space, tab, newline and backslash) of /proc/self/mountinfo."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text))
