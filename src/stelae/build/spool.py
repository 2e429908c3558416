"""Contents on their way into a layer: small ones in memory, large ones in a file of the work folder."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from stelae.domain.errors import Failed
from stelae.domain.units import KIB
from stelae.images.content import CHUNK, Content, Slice

SMALL = 64 * KIB


class Spool:
    """Keeps contents until the layer is written; *path* is a new file in a folder that the caller removes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    def keep(self, data: bytes) -> Content:
        """Return *data* as the content of a node."""
        return self.take(BytesIO(data), len(data))

    def take(self, stream: BinaryIO, size: int) -> Content:
        """Return the next *size* bytes of *stream* as the content of a node; raises Failed when there are fewer."""
        if size <= SMALL:
            return _whole(stream, size)
        left = size
        with self._path.open("ab") as file:
            while left:
                data = _whole(stream, min(left, CHUNK))
                file.write(data)
                left -= len(data)
        self._size += size
        return Slice(self._path, self._size - size, size)


def _whole(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise Failed("a content ended before it was whole")
    return data
