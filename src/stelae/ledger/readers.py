"""Connections for reading, lent to one thread at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.ledger.faults import damaged, explain
from stelae.ledger.schema import connect_reader

_KEPT = 4  # idle connections; more are closed after their use


class Readers:
    """The read connections of one open record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def lease(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection. SQLite's errors inside become Failed or Conflict; after any error it is closed."""
        connection = None
        try:
            connection = self._take()
            yield connection
        except BaseException as error:
            if connection is not None:
                _close(connection)
            if isinstance(error, sqlite3.Error):
                raise explain(error, self._path) from error
            raise
        self._give_back(connection)

    def leaves(self, start: int, end: int) -> list[bytes]:
        """Return the leaves from index *start* to before *end*, which nobody has checked; raises Failed, which names
        the index, for one that is missing."""
        with self.lease() as connection:
            rows = connection.execute(
                "SELECT idx, leaf FROM event WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end)
            ).fetchall()
        for index, row in zip_longest(range(start, end), rows):
            if row is None or row[0] != index or type(row[1]) is not bytes:
                raise damaged(self._path, f"event {index} is missing")
        return [leaf for _, leaf in rows]

    def close(self) -> None:
        """Close the idle connections; one that is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise Failed("the record is closed", where=str(self._path), hint="restart the controller")
            if self._idle:
                return self._idle.pop()
        return connect_reader(self._path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        _close(connection)


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()
