"""The full check of the record: every leaf is hashed again, every stored hash compared, up to the root.

So is every body that is held beside the record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from stelae.core.merkle import Frontier, leaf_hash
from stelae.domain.errors import Failed
from stelae.ledger.codec import read_envelope
from stelae.ledger.faults import damaged
from stelae.ledger.held import Held


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Check the whole record in one read transaction; raises Failed, which names the first bad index.

    What it cannot see is a record that was rewritten, or put back to an older one, as a whole: that takes a root
    that somebody else kept.
    """
    connection.execute("BEGIN")
    try:
        head = connection.execute("SELECT size, root FROM head").fetchone()
        if head is None:
            raise damaged(path, "its head is missing")
        _Check(connection, path, *head).run()
    finally:
        connection.execute("ROLLBACK")


class _Check:
    def __init__(self, connection: sqlite3.Connection, path: Path, size: int, root: bytes) -> None:
        self._events = connection.execute("SELECT idx, at, leaf FROM event ORDER BY idx")
        self._nodes: Iterator[tuple[int, bytes]] = connection.execute("SELECT idx, hash FROM node ORDER BY idx")
        self._path = path
        self._held = Held(path)
        self._size = size
        self._root = root
        self._frontier = Frontier()
        self._stored = 0

    def run(self) -> None:
        index = 0
        try:
            last = None
            for index, (found, at, leaf) in enumerate(self._events):
                self._is_in_place(index, found)
                self._is_in_tree(index, leaf)
                envelope = read_envelope(index, leaf)
                if at != envelope.at:
                    raise self._bad(f"the time beside event {index} is not the one in it")
                if envelope.held is not None:
                    self._held.read(index, envelope.held)
                if last is not None and at < last:
                    raise self._bad(f"event {index} is older than the one before it")
                last = at
            self._ends_well()
        except sqlite3.Error as error:
            raise self._bad(f"at event {index} or the next: {error}") from error

    def _is_in_place(self, index: int, found: int) -> None:
        if found != index:
            raise self._bad(f"event {index} is missing (the next that is there is {found})")
        if index >= self._size:
            raise self._bad(f"event {index} was not recorded by Stelae (the record has {self._size} events)")

    def _is_in_tree(self, index: int, leaf: bytes) -> None:
        if type(leaf) is not bytes:
            raise self._bad(f"event {index} is not what was recorded")
        for level, expected in enumerate(self._frontier.append(leaf_hash(leaf))):
            if next(self._nodes, None) != (self._stored, expected):
                what = (
                    f"event {index} is not what was recorded" if level == 0
                    else f"the tree over events {index + 1 - (1 << level)} to {index} does not match them"
                )  # fmt: skip
                raise self._bad(what)
            self._stored += 1

    def _ends_well(self) -> None:
        size = self._frontier.size
        if size != self._size:
            raise self._bad(f"event {size} is missing (the record should have {self._size} events)")
        if next(self._nodes, None) is not None:
            raise self._bad(f"the tree has a hash of an event {size} that is not there")
        if self._frontier.root() != self._root:
            raise self._bad(f"the root does not match the events 0 to {size - 1}")

    def _bad(self, what: str) -> Failed:
        return damaged(self._path, what)
