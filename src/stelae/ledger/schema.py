"""The SQLite file of the record: its tables, its version, and the connections to it.

``event`` holds the leaves, ``node`` the stored hashes of the tree (see ``stelae.core.merkle``), ``head`` one row
with the tree's size and root. Triggers keep honest programs from changing what is there; against others there is
the tree. ``event.at`` repeats the time in the leaf, for the search by time.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from stelae.core.merkle import EMPTY_ROOT
from stelae.domain.errors import Failed
from stelae.ledger.faults import damaged
from stelae.system import points
from stelae.system.files import sync_folder

APPLICATION = int.from_bytes(b"Stel", "big")
"""SQLite's application_id of the file."""

VERSION = 1
"""SQLite's user_version: grows when the tables change."""

MODE = 0o600

_BUSY_SECONDS = 5.0

_TABLES = (
    "CREATE TABLE event (idx INTEGER PRIMARY KEY, at INTEGER NOT NULL, leaf BLOB NOT NULL) STRICT",
    "CREATE TABLE node (idx INTEGER PRIMARY KEY, hash BLOB NOT NULL CHECK (length(hash) = 32)) STRICT",
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, root BLOB NOT NULL) STRICT",
)

_GROWS = "BEGIN SELECT RAISE(ABORT, 'the record only grows'); END"

# The insert triggers also stop INSERT OR REPLACE, for which SQLite runs no delete trigger.
_TRIGGERS = (
    f"CREATE TRIGGER event_update BEFORE UPDATE ON event {_GROWS}",
    f"CREATE TRIGGER event_delete BEFORE DELETE ON event {_GROWS}",
    (
        "CREATE TRIGGER event_insert BEFORE INSERT ON event "
        "WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM event) "
        "BEGIN SELECT RAISE(ABORT, 'the record has no gaps'); END"
    ),
    f"CREATE TRIGGER node_update BEFORE UPDATE ON node {_GROWS}",
    f"CREATE TRIGGER node_delete BEFORE DELETE ON node {_GROWS}",
    (
        "CREATE TRIGGER node_insert BEFORE INSERT ON node "
        "WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM node) "
        "BEGIN SELECT RAISE(ABORT, 'the record has no gaps'); END"
    ),
    f"CREATE TRIGGER head_update BEFORE UPDATE ON head WHEN NEW.size <= OLD.size OR NEW.id IS NOT 0 {_GROWS}",
    f"CREATE TRIGGER head_delete BEFORE DELETE ON head {_GROWS}",
)

_SCHEMA = (*_TABLES, *_TRIGGERS)


@points.around("ledger.create")
def create(path: Path) -> None:
    """Make an empty record at *path*, which comes to be whole or not at all; raises sqlite3.Error and OSError."""
    temporary = path.with_name(path.name + ".new")
    for leftover in temporary.parent.glob(temporary.name + "*"):
        leftover.unlink()
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, MODE))
    try:
        connection = _connect(temporary)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO head VALUES (0, 0, ?)", (EMPTY_ROOT,))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def connect_writer(path: Path) -> sqlite3.Connection:
    """Return the connection that appends; raises sqlite3.Error, and Failed for a file that is no record of ours.

    Checkpoints are left to the caller: SQLite's own run after a commit and hide their errors.
    """
    connection = _connect(path)
    try:
        check_file(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write; raises sqlite3.Error."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # One connection is used by one thread at a time, but not always by the same one.
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def check_file(connection: sqlite3.Connection, path: Path) -> None:
    """Raise Failed when the file at *path* is no record of ours, is one of a newer version, or was changed."""
    if _pragma(connection, "application_id") != APPLICATION:
        raise Failed("this file is not a record of Stelae", where=str(path), hint="move it away")
    version = _pragma(connection, "user_version")
    if version > VERSION:
        raise Failed(
            f"a newer Stelae wrote this record (format {version}, this one knows {VERSION})", where=str(path),
            hint="install that version or a newer one",
        )  # fmt: skip
    found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")}
    if version < 1 or found != set(_SCHEMA):
        raise damaged(path, "its tables or triggers were changed")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
