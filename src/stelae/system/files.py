"""Files that are whole or not there: write beside, sync, rename, sync the folder."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stelae.domain.errors import InvalidInput

_AT_ONCE = 8  # files that are synced at the same time


def read_small(path: Path, most: int, what: str = "it") -> bytes:
    """Return what is in the file *path*, of which *what* is read; raises InvalidInput when it cannot be read, or has
    more than *most* bytes (some KiB)."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InvalidInput(f"{what} cannot be read: {error.strerror}", where=str(path)) from error
    if len(data) > most:
        raise InvalidInput(f"{what} is larger than {most // 1024} KiB", where=str(path))
    return data


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Make *path* hold *data*, so that a crash leaves the old content or the new, never a part.

    With *durable* false the sync is left out: for files that are made again after a power-off.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in folder *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(descriptors: Sequence[int]) -> None:
    """Make the contents of open files durable, side by side: the disk's journal is written once for several."""
    if len(descriptors) == 1:
        os.fsync(descriptors[0])
        return
    from concurrent.futures import ThreadPoolExecutor  # the command line reads files too, and starts sooner without

    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(descriptors)))) as pool:
        for _ in pool.map(os.fsync, descriptors):
            pass


def sync_file(path: Path) -> None:
    """Make the content of the file *path* durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_disk(path: Path) -> None:
    """Make everything durable that was written to the disk of the folder *path* (syncfs(2)): for very many files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
