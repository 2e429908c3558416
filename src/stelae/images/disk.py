"""What can go wrong with a disk, in words, and the lock of a folder."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.errors import Conflict, Failed

_LOOK_AGAIN = 0.05


@contextmanager
def locked(folder: Path, *, shared: bool = False, name: str = ".lock") -> Iterator[None]:
    """Hold *folder* against other processes and threads: alone, or *shared*. The kernel frees it on a crash."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def locked_within(folder: Path, name: str, seconds: float, problem: str) -> Iterator[None]:
    """Hold *folder* alone, as ``locked``; raises Conflict with *problem* when others hold it for so long."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with (folder / name).open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Conflict(problem, hint="try again when it has ended") from None
                time.sleep(_LOOK_AGAIN)
        yield


@contextmanager
def room_on(folder: Path) -> Iterator[None]:
    """Turn a full disk into Failed; the caller leaves nothing half done."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Failed(
                "the disk is full", where=str(folder), hint="stelae gc removes what no environment can return to"
            ) from error
        raise
