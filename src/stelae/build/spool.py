"""Contents on their way into a layer: small ones in memory, large ones in a file of the work folder."""

from __future__ import annotations

from pathlib import Path

from stelae.domain.units import KIB
from stelae.images.content import Content, Slice

SMALL = 64 * KIB


class Spool:
    """Keeps contents until the layer is written; *path* is a new file in a folder that the caller removes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    def keep(self, data: bytes) -> Content:
        """Return *data* as the content of a node."""
        if len(data) <= SMALL:
            return data
        with self._path.open("ab") as file:
            file.write(data)
        self._size += len(data)
        return Slice(self._path, self._size - len(data), len(data))
