"""One writer at a time: a lock on a file beside the record, which the kernel drops when the writer ends.

A file that was taken away, and perhaps made again, locks nothing any more: its writer finds that out before each
write, and another writer may begin. What it writes is then refused by the record's head, which has moved.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from stelae.domain.errors import Conflict

_WIDTH = 11  # always as long: writing it again needs no space, also on a full disk


class WriterLock:
    """The right to write, held from ``__init__`` to ``release`` or to the end of the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock at *path*; raises Conflict, which names the holder's process, and OSError."""
        self._path = path
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise Conflict(
                f"the record is in use by process {holder or 'unknown'}", where=str(path),
                hint="another controller is running; stop it first (one that hangs: controller run --take-over)",
            ) from error  # fmt: skip
        if self.lost():
            os.close(self._descriptor)
            raise Conflict("the record's lock was taken away meanwhile", where=str(path), hint="try again")
        with suppress(OSError):  # the number is for people; the lock holds without it
            os.pwrite(self._descriptor, f"{os.getpid():>{_WIDTH - 1}}\n".encode(), 0)

    def lost(self) -> bool:
        """True when the file at the lock's path is not the locked one any more; raises OSError."""
        own = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Give the lock up."""
        with suppress(OSError):  # whatever the disk says, the descriptor is closed, and nothing was to be written
            os.close(self._descriptor)


def end_holder(path: Path, *, patience: float = 10.0) -> int | None:
    """End the process that holds the lock at *path*, also one that is stopped; return its id, None when none does.

    It gets SIGKILL: what is paused cannot be asked. Raises Conflict when it cannot be found, or has not ended within
    *patience* seconds.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not _is_held(descriptor):
            return None
        holder = int(_holder(descriptor) or 0)
        with suppress(ProcessLookupError):
            process = os.pidfd_open(holder)
            try:
                # Still the same one holds it, so the number that was opened is not another process's by now.
                if _is_held(descriptor) and _holder(descriptor) == str(holder):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], patience)
            finally:
                os.close(process)
        if _is_held(descriptor):
            raise Conflict(
                f"process {holder or 'unknown'} holds the record and does not end", where=str(path),
                hint="restart the machine: the kernel cannot end it",
            )  # fmt: skip
        return holder
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, _WIDTH, 0).decode("ascii", "replace").strip()


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
