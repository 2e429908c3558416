"""What a witness remembers, in one SQLite file: its logs, how far it has seen each, and what it refused and why.

A look and what follows from it are one transaction, also beside another process; what is committed is on the disk.
Whoever loses this file has no witness any more: a new one would believe any history once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stelae.core.merkle import EMPTY_ROOT
from stelae.domain.errors import Conflict, Failed
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Verifier, parse_vkey

APPLICATION = int.from_bytes(b"StWi", "big")
"""SQLite's application_id of the file."""

VERSION = 1

KEPT = 100
"""So many refused checkpoints are kept of a log, for each reason."""

_BUSY_SECONDS = 5.0

_TABLES = (
    (
        "CREATE TABLE log (origin TEXT PRIMARY KEY, vkey TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, "
        "at INTEGER NOT NULL, checkpoint BLOB NOT NULL) STRICT"
    ),
    (
        "CREATE TABLE refused (origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, why TEXT NOT NULL, "
        "seen INTEGER NOT NULL, at INTEGER NOT NULL, checkpoint BLOB NOT NULL, "
        "PRIMARY KEY (origin, size, root)) STRICT"
    ),
    (
        "CREATE TRIGGER log_grows BEFORE UPDATE ON log WHEN NEW.size < OLD.size OR NEW.at < OLD.at "
        "BEGIN SELECT RAISE(ABORT, 'a witness forgets nothing'); END"
    ),
    "CREATE TRIGGER log_stays BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'a witness forgets nothing'); END",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A log, and the newest of it that was cosigned: the signed ``checkpoint`` with the cosignature, b"" when
    nothing was yet; ``at`` is when, in seconds since 1970."""

    log: Verifier
    size: int
    root: bytes
    at: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A checkpoint that a log's key has signed and that was not cosigned, when ``seen`` leaves had been."""

    origin: str
    size: int
    why: str
    seen: int
    at: int
    checkpoint: bytes


class Memory:
    """The file at *path*; any thread may use it."""

    def __init__(self, path: Path) -> None:
        """Open what ``Memory.create`` made; raises Failed when it is missing, damaged or no memory of a witness."""
        self._path = path
        if not path.is_file():
            raise Failed(
                "the memory of the witness is missing", where=str(path),
                hint="a witness that forgot is none: make a new one, under a new name: stelae witness init",
            )  # fmt: skip
        self._lock = threading.Lock()
        try:
            self._connection = _connect(path)
            found = (
                self._connection.execute("PRAGMA application_id").fetchone(),
                {sql for (sql,) in self._connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")},
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from error
        if found != ((APPLICATION,), set(_TABLES)):
            raise self._damaged("it is no memory of a witness, or of another version")

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty memory, which comes to be whole or not at all; raises sqlite3.Error and OSError."""
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        connection = _connect(temporary)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            connection.close()
        temporary.chmod(0o600)
        temporary.replace(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Look and remember, with nobody in between; what was remembered is on the disk when this ends.

        Raises Failed when that cannot be said; then nothing that depends on it may be told to anybody.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield Turn(self._connection)
                    self._connection.execute("COMMIT")
                finally:
                    if self._connection.in_transaction:
                        with suppress(sqlite3.Error):
                            self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> Failed:
        return Failed(f"the memory of the witness cannot be used: {why}", where=str(self._path))


class Turn:
    """What can be done in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def log(self, origin: str) -> Seen | None:
        """Return the log *origin*, None when it is not trusted."""
        return next((seen for seen in self.logs() if seen.log.name == origin), None)

    def logs(self) -> list[Seen]:
        """Return all logs."""
        rows = self._execute("SELECT vkey, size, root, at, checkpoint FROM log ORDER BY origin").fetchall()
        return [Seen(parse_vkey(vkey), *rest) for vkey, *rest in rows]

    def trust(self, log: Verifier) -> bool:
        """Enter *log*; say whether it is new. Raises Conflict when its name has another key already."""
        known = self.log(log.name)
        if known is not None and known.log != log:
            raise Conflict(f"the log {log.name} is known with another key", hint="another key is another log")
        if known is None:
            self._execute("INSERT INTO log VALUES (?, ?, 0, ?, 0, x'')", (log.name, log.vkey, EMPTY_ROOT))
        return known is None

    def remember(self, checkpoint: Checkpoint, at: int, cosigned: bytes) -> None:
        """Enter *checkpoint* as the newest of its log."""
        self._execute(
            "UPDATE log SET size = ?, root = ?, at = ?, checkpoint = ? WHERE origin = ?",
            (checkpoint.size, checkpoint.root, at, cosigned, checkpoint.origin),
        )

    def refuse(self, checkpoint: Checkpoint, why: str, seen: int, at: int, signed: bytes) -> None:
        """Keep a checkpoint that was not cosigned, once, and not more of them than KEPT."""
        origin = checkpoint.origin
        (count,) = self._execute(
            "SELECT count(*) FROM refused WHERE (origin, why) = (?, ?)", (origin, why)
        ).fetchone()
        if count < KEPT:
            values = (origin, checkpoint.size, checkpoint.root, why, seen, at, signed)
            self._execute("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def refused(self) -> list[Refused]:
        """Return what was refused, oldest first."""
        query = "SELECT origin, size, why, seen, at, checkpoint FROM refused ORDER BY at, rowid"
        return [Refused(*row) for row in self._execute(query).fetchall()]


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection
