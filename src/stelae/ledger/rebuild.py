"""A record made anew of its leaves: what is brought back is the events, and never a database file from elsewhere.

Bodies that are held beside the record are files, which the caller puts there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from stelae.core import merkle
from stelae.domain.errors import Failed
from stelae.ledger.codec import read_envelope
from stelae.ledger.faults import damaged, explain
from stelae.ledger.schema import connect_writer, create
from stelae.system import points
from stelae.system.files import sync_file, sync_folder

_AT_ONCE = 16_384
"""Leaves in one transaction."""


@points.around("ledger.restore")
def rebuild(path: Path, bundles: Iterable[Sequence[bytes]]) -> str:
    """Make a record at *path*, where none is, of all leaves in *bundles*; return its root (hexadecimal). It is on the
    disk when this returns.

    Raises Failed for a leaf that is none, when the disk is full, or when it cannot be written.
    """
    try:
        create(path)
        connection = connect_writer(path)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # nobody has it before it is whole, and synced below
            root = _Filling(connection, path).fill(bundles)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
        sync_file(path)
        sync_folder(path.parent)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    except OSError as error:
        raise Failed(f"the record cannot be made: {error.strerror}", where=str(path)) from error
    return root


class _Filling:
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._frontier = merkle.Frontier()
        self._last = 0
        self._events: list[tuple[int, int, bytes]] = []
        self._nodes: list[tuple[int, bytes]] = []

    def fill(self, bundles: Iterable[Sequence[bytes]]) -> str:
        for leaves in bundles:
            for leaf in leaves:
                self._take(leaf)
            if len(self._events) >= _AT_ONCE:
                self._write()
        if self._events:
            self._write()
        return self._frontier.root().hex()

    def _take(self, leaf: bytes) -> None:
        index = self._frontier.size
        at = read_envelope(index, leaf).at
        if at < self._last:
            raise damaged(self._path, f"event {index} is older than the one before it")
        self._last = at
        self._events.append((index, at, leaf))
        first = merkle.node_count(index)
        self._nodes += enumerate(self._frontier.append(merkle.leaf_hash(leaf)), first)

    def _write(self) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO event VALUES (?, ?, ?)", self._events)
        self._connection.executemany("INSERT INTO node VALUES (?, ?)", self._nodes)
        execute("UPDATE head SET size = ?, root = ?", (self._frontier.size, self._frontier.root()))
        execute("COMMIT")
        self._events.clear()
        self._nodes.clear()
