"""What SQLite's errors mean for the record."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from stelae.domain.errors import Conflict, Failed, StelaeError

BACKUP = "keep the files as they are for an inquiry, and restore the record from a backup"

REPLACED = "another controller has taken over the record; this one may not record any more"

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Replaced(Conflict):
    """Another controller writes the record now, and whoever gets this has to end."""


def replaced(path: Path) -> Replaced:
    """Return the error for whoever lost the right to write the record at *path*."""
    return Replaced(REPLACED, where=str(path), hint="see which one it is: stelae status")


def primary_code(error: sqlite3.Error) -> int:
    """Return the primary result code of *error* (0 for an error of the Python module itself)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_full(error: sqlite3.Error) -> bool:
    """True when *error* says that a write found the disk full, so that the transaction did not happen."""
    return primary_code(error) == sqlite3.SQLITE_FULL


def no_space(error: sqlite3.Error) -> bool:
    """Like ``is_full``, for opening: making the -shm file reports a full disk as an I/O error of its own kind.

    (During a commit that error comes after the commit's last write, so there it does not mean "nothing happened".)
    """
    return is_full(error) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE


def is_busy(error: sqlite3.Error) -> bool:
    """True when another connection holds the file; nothing was written."""
    return primary_code(error) in _BUSY


def disk_full(path: Path) -> Failed:
    """Return the error for a full disk: nothing was recorded."""
    return Failed(
        "disk full: nothing was recorded and nothing was changed", where=str(path),
        hint=f"free space on the disk that holds {path.parent}",
    )  # fmt: skip


def damaged(path: Path, what: str) -> Failed:
    """Return the error for a record whose bytes are not what was written."""
    return Failed(f"the record is damaged: {what}", where=str(path), hint=BACKUP)


def explain(error: sqlite3.Error, path: Path) -> StelaeError:
    """Return *error*, from opening or reading, as what a person is told."""
    if no_space(error):
        return disk_full(path)
    if is_busy(error):
        return Conflict("another program holds the record", where=str(path), hint="end it and try again")
    if primary_code(error) in _DAMAGED or isinstance(error, sqlite3.DataError):
        return damaged(path, str(error))
    return Failed(f"the record cannot be read: {error}", where=str(path), hint="check the disk and the file's mode")
