"""Opening the record for writing: the lock, the reserve, the file itself, and where its tree stands."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stelae.core import merkle
from stelae.domain.errors import Failed
from stelae.domain.units import Instant
from stelae.ledger.faults import damaged, explain, is_full, no_space
from stelae.ledger.lock import WriterLock
from stelae.ledger.reserve import Reserve
from stelae.ledger.schema import MODE, connect_writer, create
from stelae.system import points

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where the record stands: the edge of its tree, the root, and the time of the last event (0: none)."""

    frontier: merkle.Frontier
    root: bytes
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """All that a ledger holds while it is open."""

    path: Path
    lock: WriterLock
    reserve: Reserve
    connection: sqlite3.Connection
    head: Head


@points.around("ledger.open")
def open_for_writing(path: Path, reserve_size: int) -> Opened:
    """Open the record at *path*, made when there is none; raises Conflict and Failed (see ``Ledger.open``)."""
    path = path.absolute()
    try:
        if not path.parent.is_dir():
            raise Failed(f"the folder {path.parent} is missing", where=str(path))
        lock = WriterLock(path.with_suffix(".lock"))
        try:
            return _open_locked(path, lock, reserve_size)
        except BaseException:
            lock.release()
            raise
    except sqlite3.Error as error:
        raise explain(error, path) from error
    except OSError as error:
        raise Failed(f"the record cannot be opened: {error.strerror}", where=str(error.filename or path)) from error


def _open_locked(path: Path, lock: WriterLock, reserve_size: int) -> Opened:
    reserve_path = path.with_suffix(".reserve")
    reserve = Reserve(reserve_path, reserve_size)
    if path.exists():
        if path.stat().st_size == 0:
            raise damaged(path, "the file is empty")
        path.chmod(MODE)
    else:
        traces = [trace for trace in (reserve_path, path.with_name(path.name + "-wal")) if trace.exists()]
        if traces:
            raise damaged(path, f"the file is missing, though {traces[0].name} shows that it was there")
        create(path)
    connection = _with_reserve(reserve, lambda: connect_writer(path))
    try:
        head = _with_reserve(reserve, lambda: _head(connection, path))
        _copy_log(connection)
    except BaseException:
        connection.close()
        raise
    reserve.restore()
    return Opened(path=path, lock=lock, reserve=reserve, connection=connection, head=head)


def _with_reserve(reserve: Reserve, action: Callable[[], _T]) -> _T:
    """Do *action*; on a full disk again, with parts of the reserve. Opening needs a little space, too."""
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not no_space(error) or not reserve.release():
                raise


@points.around("ledger.copy")
def _copy_log(connection: sqlite3.Connection) -> None:
    """Write what an earlier process left in the log into the database.

    If its last sync failed, the log's pages in memory may not be on the disk although they are marked as clean;
    copying them writes them anew.
    """
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        if not is_full(error):
            raise


def _head(connection: sqlite3.Connection, path: Path) -> Head:
    """Return where the record stands; raises Failed when head, tree and events do not fit together.

    A look at the edge only; ``Ledger.verify`` is the full check.
    """
    row = connection.execute("SELECT size, root FROM head").fetchone()
    if row is None:
        raise damaged(path, "its head is missing")
    size, root = row
    frontier = None
    with suppress(ValueError, TypeError, OverflowError):  # whatever the changed values lead to
        hashes = dict(connection.execute(*_select_nodes(size)).fetchall())
        frontier = merkle.Frontier(size, [hashes[i] for i in merkle.frontier_indexes(size) if i in hashes])
    if frontier is None or frontier.root() != root:
        raise damaged(path, "its root does not match its tree")
    count, last = connection.execute("SELECT max(idx) + 1, max(idx) FROM event").fetchone()
    if (count or 0) != size:
        raise damaged(path, f"event {min(count or 0, size)} is missing or was not recorded by Stelae")
    (nodes,) = connection.execute("SELECT max(idx) + 1 FROM node").fetchone()
    if (nodes or 0) != merkle.node_count(size):
        raise damaged(path, f"its tree is not that of {size} events")
    row = connection.execute("SELECT at FROM event WHERE idx = ?", (last,)).fetchone()
    return Head(frontier=frontier, root=root, at=row[0] if row else 0)


def _select_nodes(size: int) -> tuple[str, tuple[int, ...]]:
    indexes = merkle.frontier_indexes(size)
    return f"SELECT idx, hash FROM node WHERE idx IN ({','.join('?' * len(indexes))})", indexes  # noqa: S608
