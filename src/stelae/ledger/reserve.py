"""Space set aside for what must be recorded even when the disk is full.

A file beside the record holds disk blocks. On a full disk it is cut shorter, a part at a time, so that others who
write to the same disk can take away no more than a part; it is filled again when there is enough space.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from stelae.system import points

_PARTS = 16

HEADROOM = 4
"""Work is admitted, and the reserve filled, while this many times its size is free."""


class Reserve:
    """The file at *path*, of *size* bytes when it is full. Threads may share it."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._lock = threading.Lock()

    def restore(self) -> bool:
        """Fill the reserve if it is not full and there is space; return whether it is full."""
        with self._lock:
            if self._held() >= self._size:
                return True
            if self._free() < HEADROOM * self._size:
                return False
            try:
                self._fill()
            except OSError:
                return False
            return True

    def room(self) -> bool:
        """True when the reserve is full and the disk has headroom. Cheap: two system calls."""
        return self.restore() and self._free() >= HEADROOM * self._size

    @points.around("ledger.reserve")
    def release(self) -> bool:
        """Give a part of the reserve back to the disk; return False when nothing is left of it."""
        with self._lock:
            held = self._held()
            if held == 0:
                return False
            os.truncate(self._path, max(0, held - max(self._size // _PARTS, 1)))
            return True

    def _held(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _free(self) -> int:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    @points.around("ledger.reserve")
    def _fill(self) -> None:
        descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if self._size:
                os.posix_fallocate(descriptor, 0, self._size)
        finally:
            os.close(descriptor)
