"""The record's file as another process reads it, while the controller writes: leaves, and how many there are.

Leaves never change, so what is read up to a size is that record at that size, however long the reading takes; each
read is short, and holds up nobody.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.faults import damaged, explain
from stelae.ledger.held import Held
from stelae.ledger.readers import Readers
from stelae.ledger.schema import check_file, connect_reader


class Snapshot:
    """The record at *path*; raises InvalidInput when there is none, Failed when it cannot be read."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidInput("there is no record", where=str(path), hint="is it the state of an installation?")
        try:
            connection = connect_reader(path)
            try:
                check_file(connection, path)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise explain(error, path) from error
        except OSError as error:
            raise Failed(f"the record cannot be read: {error.strerror}", where=str(path)) from error
        self._path = path
        self._readers = Readers(path)
        self.held = Held(path)

    @property
    def size(self) -> int:
        """How many events there are now."""
        with self._readers.lease() as connection:
            row = connection.execute("SELECT size FROM head").fetchone()
        if row is None:
            raise damaged(self._path, "its head is missing")
        return int(row[0])

    def leaves(self, start: int, end: int) -> list[bytes]:
        """Return the leaves from index *start* to before *end*, which nobody has checked; raises Failed, which names
        the index, for one that is missing."""
        return self._readers.leaves(start, end)

    def close(self) -> None:
        """Close the file."""
        self._readers.close()
