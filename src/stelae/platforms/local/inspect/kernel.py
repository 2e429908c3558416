"""What the kernel tells of processes, read as cheaply as it can be: an inspection asks thousands of times.

Everything returns None, or nothing, for a process that has ended: that is nobody's drift.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

NAMESPACES = ("pid", "mnt", "net", "ipc", "uts")
"""The kinds of namespaces that an instance has of its own."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
_AT_FDCWD = -100
_STATX_MNT_ID = 0x1000  # since Linux 5.8
_MNT_ID_AT = 0x90  # stx_mnt_id in struct statx
_STATX_SIZE = 256
_CHUNK = 1 << 16
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """Some fields of /proc/PID/stat (proc(5)); ``started`` is in clock ticks since boot."""

    name: bytes
    state: str
    parent: int
    started: int

    @property
    def ended(self) -> bool:
        """True when only the parent's question for the exit code is left of it."""
        return self.state in "ZXx"


def read(path: str) -> bytes:
    """Return all of a file of /proc; b"" when there is none any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    parts = []
    try:
        while part := os.read(descriptor, _CHUNK):
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return b"".join(parts)


def stat_of(pid: int) -> Stat | None:
    """Return what /proc/PID/stat says."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    # the name, in parentheses, may hold anything; the fields after it may not
    end = text.rindex(b")")
    fields = text[end + 2 :].split()
    name = text[text.index(b"(") + 1 : end]
    return Stat(name=name, state=fields[0].decode(), parent=int(fields[1]), started=int(fields[19]))


def namespace(pid: int, kind: str) -> str | None:
    """Return the name of a namespace of the process, such as ``net:[4026531840]``."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115 - asked often; so below
    except OSError:
        return None


def mount_id(path: str) -> int | None:
    """Return the number of the mount that *path* is on, links followed; those of /proc lead to the very file that is
    meant, also where it has no name any more."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _LIBC.statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_MNT_ID, buffer) != 0:
        return None
    found: int = struct.unpack_from("<Q", buffer, _MNT_ID_AT)[0]
    return found


def link(path: str) -> str | None:
    """Return where a link of /proc leads, as text that is safe to show."""
    try:
        return shown(os.readlink(path))  # noqa: PTH115
    except OSError:
        return None


def shown(name: str | bytes) -> str:
    """Return a name that somebody else chose as text that is safe to show and to keep."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return printable(text[:_SHOWN])


def printable(text: str) -> str:
    """Return *text* without what no screen shows and no record takes: control characters, bytes that are no text."""
    return "".join(char if char.isprintable() else "?" for char in text)


def processes() -> list[int]:
    """Return the numbers of all processes of the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
