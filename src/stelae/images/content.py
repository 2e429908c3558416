"""Contents of files in a tree: bytes in memory, or a part of a file on disk that is read when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.errors import Failed

CHUNK = 1 << 20
"""How many bytes are read at a time."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``size`` bytes of the file at ``path``, from ``offset`` on."""

    path: Path
    offset: int
    size: int


Content = bytes | Slice


def size_of(content: Content) -> int:
    """Return the length of *content* in bytes, without reading it."""
    return len(content) if isinstance(content, bytes) else content.size


def chunks(content: Content) -> Iterator[bytes]:
    """Yield the bytes of *content* in pieces; raises Failed when the file is shorter than the slice."""
    if isinstance(content, bytes):
        if content:
            yield content
        return
    left = content.size
    if left == 0:
        return
    with content.path.open("rb", buffering=0) as file:
        file.seek(content.offset)
        while left:
            data = file.read(min(left, CHUNK))
            if not data:
                raise Failed("the file became shorter while it was read", where=str(content.path))
            left -= len(data)
            yield data


def read(content: Content) -> bytes:
    """Return the whole of *content*."""
    return content if isinstance(content, bytes) else b"".join(chunks(content))


def same(one: Content, other: Content) -> bool:
    """Say whether both hold the same bytes; reads them only when their sizes are equal and their places differ."""
    if one == other:
        return True
    if size_of(one) != size_of(other) or (isinstance(one, bytes) and isinstance(other, bytes)):
        return False
    # Pieces of both are cut at the same places, except where a read is short: compare what is there.
    return all(a == b for a, b in zip(_even(one), _even(other), strict=True))


def _even(content: Content) -> Iterator[bytes]:
    rest = b""
    for data in chunks(content):
        rest += data
        while len(rest) >= CHUNK:
            yield rest[:CHUNK]
            rest = rest[CHUNK:]
    if rest:
        yield rest
