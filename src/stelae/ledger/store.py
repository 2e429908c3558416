"""The ledger: an append-only record of events in one SQLite file, each event a leaf of a Merkle tree.

Durability: write-ahead log with ``synchronous=FULL``; the events, the tree's new hashes and its root are one
transaction, and one sync of the disk. What ``append`` returned is on the disk. When a commit fails for any reason
but a full disk, nobody knows what is on the disk (after a failed sync the kernel may have dropped the pages), so
the open ledger refuses all further use; opening it again finds out.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stelae.core import merkle
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.event import Event, Recorded
from stelae.domain.units import KIB, MIB, Instant
from stelae.ledger import opening
from stelae.ledger.check import check
from stelae.ledger.codec import decode, encode
from stelae.ledger.faults import REPLACED, damaged, disk_full, is_busy, is_full, replaced
from stelae.ledger.held import Held
from stelae.ledger.opening import Head
from stelae.ledger.readers import Readers
from stelae.system import points

RESTART = "restart the controller; it checks the record first"

_READ_AT_ONCE = 500

# When the log is copied into the database. Few commits keep the log short (4 to 5 pages each); few bytes keep what
# a copy adds to the database well below the reserve, so that a copy, which makes the log's space usable again,
# also gets through on a full disk.
_COPY_COMMITS = 200
_COPY_BYTES = 256 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event to be recorded: who caused it, in which environment, with which idempotency key of a client."""

    event: Event
    actor: str
    environment: EnvironmentId = EnvironmentId("")
    key: str = ""


class Ledger:
    """An open record. ``append`` may be called by one thread at a time (it locks), everything else by any thread."""

    def __init__(self, opened: opening.Opened, clock: Callable[[], Instant]) -> None:
        """Use ``Ledger.open``."""
        self._path = opened.path
        self._connection = opened.connection
        self._reserve = opened.reserve
        self._writer_lock = opened.lock
        self._head = opened.head
        self._clock = clock
        self._readers = Readers(opened.path)
        self.held = Held(opened.path)
        self._appending = threading.Lock()
        self._broken = ""
        self._closed = False
        self._commits = 0
        self._bytes = 0

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], Instant], reserve: int = MIB) -> Self:
        """Open the record at *path* for writing, and make it when there is none.

        *reserve* is the space in bytes set aside for urgent events. ``ledger.lock`` and ``ledger.reserve`` are
        kept beside ``ledger.db``. Raises Conflict when another process has it open, Failed when it is damaged,
        missing though it was there, of a newer format, not a record, or when the disk is full.
        """
        return cls(opening.open_for_writing(path, reserve), clock)

    def close(self) -> None:
        """Close the record and let another process have it. Closing twice is fine."""
        with self._appending:
            if self._closed:
                return
            self._closed = True
            self._readers.close()
            with suppress(sqlite3.Error):  # what was acknowledged is on the disk already
                self._connection.close()
            self._writer_lock.release()

    @property
    def size(self) -> int:
        """How many events there are."""
        return self._head.frontier.size

    @property
    def root(self) -> str:
        """The root of the tree over all events, 64 hexadecimal digits."""
        return self._head.root.hex()

    @property
    def at(self) -> Instant:
        """When the last event was recorded; 0 while there is none."""
        return self._head.at

    def room(self) -> bool:
        """True while work that is not urgent should be admitted: the reserve is full and the disk has headroom."""
        return self._reserve.room()

    def append(self, drafts: Sequence[Draft], *, urgent: bool = False) -> tuple[Recorded, ...]:
        """Record all *drafts* in one transaction, durably, or none; return them with their index and time.

        The time is the clock's, or the last event's where that is later. On a full disk only *urgent*
        appends (outcomes, refusals, failures, rollback, abort) get through, with the reserve's space.
        Raises InvalidInput for what cannot be recorded, Failed for a full disk (nothing happened), Conflict when
        another program holds the file (nothing happened), Replaced when another controller has taken over (nothing
        happened), Failed for any other error (then restart).
        """
        with self._appending:
            try:
                return self._append(drafts, urgent)
            except OSError as error:  # of the lock or the reserve; SQLite's own are not of this kind
                where, why = error.filename or self._path, error.strerror
                raise Failed(f"nothing was recorded: {why}", where=str(where), hint="check the disk") from error

    def _append(self, drafts: Sequence[Draft], urgent: bool) -> tuple[Recorded, ...]:
        self.check_mine()
        self._usable()
        if not drafts:
            return ()
        recorded = self._stamped(drafts)
        bodies: list[bytes] = []
        leaves = [encode(item, bodies.append) for item in recorded]
        if not urgent and not self._reserve.restore():
            raise disk_full(self._path)
        if self._commits >= _COPY_COMMITS or self._bytes >= _COPY_BYTES:
            self._copy_log()
        while not self._written(recorded, leaves, bodies):
            if not urgent or not self._reserve.release():
                raise disk_full(self._path)
            self._copy_log()
        return recorded

    def read(self, start: int = 0, end: int | None = None) -> Iterator[Recorded]:
        """Yield the events from index *start* to before *end* (all of them now, by default), in order.

        Each is checked against its hash; raises Failed, which names the index, for one that was changed.
        """
        stop = self.size if end is None else min(end, self.size)
        for low in range(max(start, 0), stop, _READ_AT_ONCE):
            yield from self._events(low, min(low + _READ_AT_ONCE, stop))

    def leaves(self, start: int, end: int) -> list[bytes]:
        """Return the leaves (see ``codec``) from index *start* to before *end* as they are in the file: whoever asks
        compares them with a root. Raises Failed, which names the index, for one that is missing."""
        self._usable()
        return self._readers.leaves(start, end)

    def index_at(self, instant: Instant) -> int:
        """Return how many events were recorded up to and including *instant*."""
        self._usable()
        low, high = 0, self.size
        with self._readers.lease() as connection:
            while low < high:
                middle = (low + high) // 2
                row = connection.execute("SELECT at FROM event WHERE idx = ?", (middle,)).fetchone()
                if row is None:
                    raise damaged(self._path, f"event {middle} is missing")
                if row[0] <= instant:
                    low = middle + 1
                else:
                    high = middle
        return low

    def hashes(self, indexes: Sequence[int]) -> list[bytes]:
        """Return the stored hashes at these stored indexes: the reader that ``stelae.core.merkle`` asks for."""
        self._usable()
        marks = ",".join("?" * len(indexes))
        with self._readers.lease() as connection:
            rows = connection.execute(f"SELECT idx, hash FROM node WHERE idx IN ({marks})", indexes)  # noqa: S608
            found = dict(rows.fetchall())
        try:
            return [found[index] for index in indexes]
        except KeyError as error:
            raise damaged(self._path, f"stored hash {error} of the tree is missing") from error

    def root_at(self, size: int) -> str:
        """Return the root that the record had when it had *size* events; raises InvalidInput when it never had."""
        if not 0 <= size <= self.size:
            raise InvalidInput(f"the record has {self.size} events, it never had {size}")
        return merkle.root_at(size, self.hashes).hex()

    def verify(self) -> None:
        """Check every event, every stored hash and the root; raises Failed, which names the first bad index."""
        self._usable()
        with self._readers.lease() as connection:
            check(connection, self._path)

    def check_mine(self) -> None:
        """Raise Replaced when another controller has taken over the record; OSError when that cannot be told."""
        if self._broken == REPLACED or (not self._closed and self._writer_lock.lost()):
            self._broken = REPLACED
            raise replaced(self._path)

    def _usable(self) -> None:
        if self._closed:
            raise Failed("the record is closed", where=str(self._path), hint=RESTART)
        if self._broken:
            raise Failed(f"the record is out of use: {self._broken}", where=str(self._path), hint=RESTART)

    def _stamped(self, drafts: Sequence[Draft]) -> tuple[Recorded, ...]:
        at = max(self._head.at, self._clock())
        first = self.size
        return tuple(
            Recorded(
                index=first + place, at=at, actor=draft.actor, event=draft.event,
                environment=draft.environment, key=draft.key,
            )
            for place, draft in enumerate(drafts)
        )  # fmt: skip

    @points.around("ledger.append")
    def _written(self, recorded: Sequence[Recorded], leaves: Sequence[bytes], bodies: Sequence[bytes]) -> bool:
        """Commit the events; False when the disk is full (then nothing happened)."""
        try:
            for body in bodies:
                self.held.write(body)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise
        frontier = self._head.frontier.copy()
        position = merkle.node_count(frontier.size)
        hashes = [found for leaf in leaves for found in frontier.append(merkle.leaf_hash(leaf))]
        head = Head(frontier=frontier, root=frontier.root(), at=recorded[-1].at)
        try:
            self._commit(recorded, leaves, list(enumerate(hashes, position)), head)
        except sqlite3.Error as error:
            self._give_up_unless_nothing_happened(error)
            return False
        except BaseException as error:
            self._broken = f"writing was interrupted ({type(error).__name__})"
            raise
        self._head = head
        self._commits += 1
        self._bytes += sum(len(leaf) for leaf in leaves)
        return True

    def _commit(
        self, recorded: Sequence[Recorded], leaves: Sequence[bytes], nodes: list[tuple[int, bytes]], head: Head
    ) -> None:
        events = [(item.index, item.at, leaf) for item, leaf in zip(recorded, leaves, strict=True)]
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO event VALUES (?, ?, ?)", events)
        self._connection.executemany("INSERT INTO node VALUES (?, ?)", nodes)
        changed = execute(
            "UPDATE head SET size = ?, root = ? WHERE size = ? AND root = ?",
            (head.frontier.size, head.root, self.size, self._head.root),
        )
        if changed.rowcount != 1:
            message = "another program changed the record"
            raise sqlite3.IntegrityError(message)
        execute("COMMIT")

    def _give_up_unless_nothing_happened(self, error: sqlite3.Error) -> None:
        """Return when *error* means a full disk, raise Conflict when the file is held, Replaced when the head moved
        because another controller writes; else the ledger is broken."""
        with suppress(OSError):
            if self._writer_lock.lost():
                with suppress(sqlite3.Error):  # or the other one could not write
                    self._connection.execute("ROLLBACK")
                self.check_mine()
        if is_full(error) or is_busy(error):
            try:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            except sqlite3.Error as second:
                error = second
            else:
                if is_full(error):
                    return
                raise Conflict(
                    "another program holds the record; nothing was recorded", where=str(self._path),
                    hint="end it and try again",
                ) from error  # fmt: skip
        self._broken = str(error)
        raise Failed(f"the record could not be written: {error}", where=str(self._path), hint=RESTART) from error

    @points.around("ledger.copy")
    def _copy_log(self) -> None:
        """Copy the write-ahead log into the database, so that the log begins anew (a checkpoint)."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            self._give_up_unless_nothing_happened(error)
            return
        self._commits = self._bytes = 0

    def _events(self, low: int, high: int) -> Iterator[Recorded]:
        self._usable()
        edges = merkle.node_index(0, low), merkle.node_index(0, high - 1)
        with self._readers.lease() as connection:
            rows = connection.execute(
                "SELECT idx, at, leaf FROM event WHERE idx >= ? AND idx < ? ORDER BY idx", (low, high)
            ).fetchall()
            nodes = connection.execute("SELECT idx, hash FROM node WHERE idx BETWEEN ? AND ?", edges).fetchall()
        hashes = dict(nodes)
        found = {index: (at, leaf) for index, at, leaf in rows}
        for index in range(low, high):
            if index not in found:
                raise damaged(self._path, f"event {index} is missing")
            at, leaf = found[index]
            if type(leaf) is not bytes or merkle.leaf_hash(leaf) != hashes.get(merkle.node_index(0, index)):
                raise damaged(self._path, f"event {index} is not what was recorded")
            recorded = decode(index, leaf, self.held.read)
            if recorded.at != at:
                raise damaged(self._path, f"the time beside event {index} is not the one in it")
            yield recorded
