"""The file of the index: tables in SQLite, each row sealed with a key that is kept apart from the file.

The seals of all rows add up to a sum, sealed itself with the place in the record that the file was made from. So a
row that was changed, added, taken away or brought from elsewhere is seen when the file is opened, and a file of
another record, or of another version of Stelae, counts as not there. While it is open nobody else may write it: the
file's times and size tell if somebody did.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

_SEAL = 16
_MANY = 1 << (8 * _SEAL)
OPEN = 1 << 62
"""Where a cell ends that is still true."""

_SCHEMA = f"""
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), steps INTEGER, root TEXT, code TEXT, sum BLOB, seal BLOB);
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT UNIQUE, seal BLOB);
CREATE TABLE cell (id INTEGER PRIMARY KEY, env INTEGER, field TEXT, key TEXT, place INTEGER, born INTEGER,
                   died INTEGER DEFAULT {OPEN}, node INTEGER DEFAULT 0, value BLOB, seal BLOB);
CREATE INDEX cell_born ON cell (env, node, born);
CREATE INDEX cell_died ON cell (env, node, died);
CREATE TABLE post (name INTEGER, step INTEGER, places BLOB, seal BLOB, PRIMARY KEY (name, step)) WITHOUT ROWID;
CREATE TABLE life (id INTEGER PRIMARY KEY, env INTEGER, instance INTEGER, image INTEGER, launched INTEGER,
                   over INTEGER, value BLOB, seal BLOB);
CREATE INDEX life_instance ON life (instance);
CREATE INDEX life_image ON life (image, launched);
"""


class Untrusted(Exception):
    """The file is not what was written, or not of this record: it has to be made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Up to where the file was made: *steps* of the record, whose root was *root* then, by the code *code*."""

    steps: int
    root: str
    code: str


class Table:
    """How the rows of one table are sealed: *columns* in their order; ``died`` and ``node`` of a cell come later."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.name = name
        self.columns = tuple(columns)
        marks = ", ".join("?" * (len(columns) + 1))
        self.insert = f"INSERT INTO {name} ({', '.join(columns)}, seal) VALUES ({marks})"  # noqa: S608 - the names below


NAMES = Table("name", ("id", "text"))
CELLS = Table("cell", ("id", "env", "field", "key", "place", "born", "value"))
POSTS = Table("post", ("name", "step", "places"))
LIVES = Table("life", ("id", "env", "instance", "image", "launched", "over", "value"))


class IndexFile:
    """The open file at *path*, used by one thread at a time. *key* seals its rows."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open or make it; raises OSError and sqlite3.Error. Call ``check`` before it is believed."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._key = key
        self._sum = 0
        self._connection = self._connect()
        self._stamp = self._look()

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            for pragma in ("trusted_schema = OFF", "locking_mode = EXCLUSIVE", "journal_mode = WAL",
                           "synchronous = OFF", "cache_size = -65536"):  # fmt: skip
                connection.execute(f"PRAGMA {pragma}")
            if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
            self.begin(connection)  # takes the lock for as long as it is open
            connection.execute("COMMIT")
        except BaseException:  # also a task that is cancelled leaves no connection, whose lock would stay
            connection.close()
            raise
        return connection

    def begin(self, connection: sqlite3.Connection | None = None) -> None:
        """Begin to write."""
        (connection or self._connection).execute("BEGIN IMMEDIATE")

    def check(self, code: str) -> Head | None:
        """Check every row, and return up to where the file was made; None of one that is empty.

        Raises Untrusted when a row is not what was written, or when other *code* wrote it.
        """
        try:
            return self._check(code)
        except (sqlite3.Error, TypeError) as error:  # SQLite keeps a word where a number belongs
            raise Untrusted(f"the file is damaged: {error}") from error

    def _check(self, code: str) -> Head | None:
        head = self._connection.execute("SELECT steps, root, code, sum, seal FROM head").fetchone()
        if head is None:
            if any(self._connection.execute(f"SELECT 1 FROM {t.name} LIMIT 1").fetchone()  # noqa: S608 - our own names
                   for t in (NAMES, CELLS, POSTS, LIVES)):  # fmt: skip
                raise Untrusted("it has rows and no head")
            return None
        steps, root, by, total, seal = head
        if seal != self._seal_of("head", (steps, root, by, total)):
            raise Untrusted("its head is not what was written")
        if by != code:
            raise Untrusted("another version wrote it")
        self._sum = 0
        for table in (NAMES, POSTS, LIVES):
            self._check_rows(table)
        self._check_cells()
        if self._sum.to_bytes(_SEAL, "big") != total:
            raise Untrusted("rows were added or taken away")
        return Head(steps=steps, root=root, code=by)

    def _check_rows(self, table: Table) -> None:
        rows = self._connection.execute(f"SELECT {', '.join(table.columns)}, seal FROM {table.name}")  # noqa: S608 - our own names
        for *values, seal in rows:
            if seal != self._seal_of(table.name, values):
                raise Untrusted(f"a row of {table.name} is not what was written")
            self._count(seal)

    def _check_cells(self) -> None:
        rows = self._connection.execute(f"SELECT died, node, {', '.join(CELLS.columns)}, seal FROM cell")  # noqa: S608 - our own names
        for died, node, *values, seal in rows:
            if seal != self._seal_of("cell", values) or node != (0 if died == OPEN else fork(values[5], died - 1)):
                raise Untrusted("a cell is not what was written")
            self._count(seal)
            if died != OPEN:
                self._count(self._seal_of("end", (values[0], died)))

    def add(self, table: Table, rows: Iterable[Sequence[object]]) -> None:
        """Write new *rows*."""
        sealed = []
        for row in rows:
            seal = self._seal_of(table.name, row)
            self._count(seal)
            sealed.append((*row, seal))
        self._connection.executemany(table.insert, sealed)

    def end_cells(self, ends: Iterable[tuple[int, int, int]]) -> None:
        """Say of cells (id, born, died) that they are true no more."""
        rows = []
        for row, born, died in ends:
            self._count(self._seal_of("end", (row, died)))
            rows.append((died, fork(born, died - 1), row))
        self._connection.executemany("UPDATE cell SET died = ?, node = ? WHERE id = ?", rows)

    def replace_lives(self, rows: Iterable[Sequence[object]]) -> None:
        """Write *rows* in place of those with their ids."""
        rows = list(rows)
        for row in rows:
            found = self._connection.execute("SELECT seal FROM life WHERE id = ?", (row[0],)).fetchone()
            self._count(found[0], -1)
        self._connection.executemany("DELETE FROM life WHERE id = ?", [(row[0],) for row in rows])
        self.add(LIVES, rows)

    def commit(self, head: Head) -> None:
        """Write *head*, and end the transaction."""
        values = (head.steps, head.root, head.code, self._sum.to_bytes(_SEAL, "big"))
        self._connection.execute(
            "INSERT OR REPLACE INTO head VALUES (0, ?, ?, ?, ?, ?)", (*values, self._seal_of("head", values))
        )
        self._connection.execute("COMMIT")
        self._stamp = self._look()

    def select(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; raises Untrusted when the file is damaged."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise Untrusted(f"the file is damaged: {error}") from error

    def check_mine(self) -> None:
        """Raise Untrusted when somebody else wrote the file since this process did."""
        if self._look() != self._stamp:
            raise Untrusted("somebody else wrote the file")

    def close(self) -> None:
        """Close it; what was committed stays."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def remove(self) -> None:
        """Close it and delete it."""
        self.close()
        for ending in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    def size(self) -> int:
        """Return how many bytes it takes."""
        return sum(path.stat().st_size for path in (self._path, self._wal) if path.exists())

    @property
    def _wal(self) -> Path:
        return self._path.with_name(self._path.name + "-wal")

    def _look(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self._path, self._wal):
            try:
                stat = path.stat()
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        return tuple(found)

    def _count(self, seal: bytes, sign: int = 1) -> None:
        self._sum = (self._sum + sign * int.from_bytes(seal, "big")) % _MANY

    def _seal_of(self, table: str, values: Sequence[object]) -> bytes:
        return blake2b(repr((table, *values)).encode(), key=self._key, digest_size=_SEAL).digest()


def fork(first: int, last: int) -> int:
    """Return the node of the interval from *first* to *last*: the number in it by which it is found, because every
    number's way to the root of the tree of numbers (``nodes``) passes it or the number is in no such interval."""
    high = (first ^ last).bit_length() - 1
    return last if high < 0 else last >> high << high


def nodes(number: int, most: int) -> list[tuple[int, bool]]:
    """Return the nodes of all intervals that may hold *number*, none beyond *most*; with each, whether it is beyond
    *number*, so that an interval there must have begun by then (else it must not have ended)."""
    found = []
    for high in range(most.bit_length()):
        node = (number >> (high + 1) << (high + 1)) | 1 << high
        found.append((node, node > number))
    return found


def sealing_key(path: Path) -> bytes:
    """Return the key in the file at *path*, which is made when it is missing; where that cannot be, a key that nobody
    else has, so that no file that is there is believed."""
    try:
        found = path.read_bytes()
        if len(found) == 32:
            return found
    except OSError:
        pass
    made = secrets.token_bytes(32)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made)
        temporary.replace(path)
    return made
