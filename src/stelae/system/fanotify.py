"""Notice of writes to single files, as they happen, with the process that wrote: fanotify.

Source of the numbers and the structure: Linux, include/uapi/linux/fanotify.h; fanotify(7). Only root (CAP_SYS_ADMIN)
may have it, and a write through a shared mapping is noticed only when the mapping is closed.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

_FAN_CLOEXEC = 0x1
_FAN_NONBLOCK = 0x2
_FAN_CLASS_NOTIF = 0x0
_FAN_MODIFY = 0x2
_FAN_CLOSE_WRITE = 0x8
_FAN_Q_OVERFLOW = 0x4000
_FAN_MARK_ADD = 0x1
_FAN_MARK_REMOVE = 0x2
_FAN_NOFD = -1
# struct fanotify_event_metadata: event_len, vers, reserved, metadata_len, mask, fd, pid
_EVENT = struct.Struct("=IBBHQii")
_BUFFER = 65536

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Process ``pid`` wrote to the file of device and inode ``file``, or opened it to write and closed it; ``file``
    is None when so much happened that the kernel lost count."""

    file: tuple[int, int] | None
    pid: int


class WriteNotice:
    """Tells of writes to the files that were given to ``watch``. ``fileno`` can be read when there are some."""

    def __init__(self) -> None:
        """Raise OSError where there is no fanotify, or no right to it."""
        flags = os.O_RDONLY | os.O_LARGEFILE | os.O_CLOEXEC
        self._group = _LIBC.fanotify_init(_FAN_CLASS_NOTIF | _FAN_CLOEXEC | _FAN_NONBLOCK, flags)
        if self._group < 0:
            raise _error()

    def fileno(self) -> int:
        """Return the descriptor of the group."""
        return int(self._group)

    def watch(self, file: int) -> None:
        """Tell of writes to the open *file* until it is deleted; asking again changes nothing. Raises OSError."""
        self._mark(_FAN_MARK_ADD, file)

    def let_go(self, file: int) -> None:
        """Tell no more of the open *file*; raises OSError."""
        self._mark(_FAN_MARK_REMOVE, file)

    def _mark(self, way: int, file: int) -> None:
        path = f"/proc/self/fd/{file}".encode()
        if _LIBC.fanotify_mark(self._group, way, _FAN_MODIFY | _FAN_CLOSE_WRITE, -1, path) != 0:
            raise _error()

    def read(self) -> list[Written]:
        """Return what happened since the last time; never waits."""
        try:
            data = os.read(self._group, _BUFFER)
        except BlockingIOError:
            return []
        found = []
        while len(data) >= _EVENT.size:
            length, _, _, _, mask, descriptor, pid = _EVENT.unpack_from(data)
            found.append(Written(file=_identity(descriptor), pid=pid))
            if mask & _FAN_Q_OVERFLOW:
                found[-1] = Written(file=None, pid=0)
            data = data[length:]
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._group)


def _identity(descriptor: int) -> tuple[int, int] | None:
    if descriptor == _FAN_NOFD:
        return None
    found = os.fstat(descriptor)
    os.close(descriptor)
    return found.st_dev, found.st_ino


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
