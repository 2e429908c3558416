"""One writer at a time: a lock on a file beside the record, which the kernel drops when the writer ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from stelae.domain.errors import Conflict

_WIDTH = 11  # always as long: writing it again needs no space, also on a full disk


class WriterLock:
    """The right to write, held from ``__init__`` to ``release`` or to the end of the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock at *path*; raises Conflict, which names the holder's process, and OSError."""
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, _WIDTH, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise Conflict(
                f"the record is in use by process {holder or 'unknown'}", where=str(path),
                hint="another controller is running; stop it first",
            ) from error  # fmt: skip
        with suppress(OSError):  # the number is for people; the lock holds without it
            os.pwrite(self._descriptor, f"{os.getpid():>{_WIDTH - 1}}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock up."""
        os.close(self._descriptor)
