"""Tiles (C2SP tlog-tiles): a Merkle tree cut into rows of 256 hashes, which never change once they are full.

A tile of level L has hashes of the tree's level 8·L; what is cut off at the right edge of the tree is a partial tile
under a name of its own. Leaves themselves are in bundles, 256 each, at the level ``entries``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stelae.core.merkle import HASH_SIZE, Frontier, node_hash, node_index, node_place

WIDTH = 256
_BITS = 8
ENTRIES = -1
"""The level of the bundles of leaves."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Which tile: its level, its number in the level, and how many hashes (or leaves) it has, 1 to WIDTH."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it is published, such as ``tile/0/x001/067.p/12``."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        part = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_number(self.number)}{part}"

    @property
    def partials(self) -> str:
        """The folder of what is published of it before it is full."""
        return f"{Tile(self.level, self.number).path}.p"

    @property
    def first(self) -> int:
        """The index of the first leaf that it is about."""
        return self.number * WIDTH << _BITS * max(self.level, 0)

    @property
    def stored(self) -> list[int]:
        """The stored indexes (see ``merkle.node_index``) of its hashes."""
        first = self.number * WIDTH
        return [node_index(_BITS * self.level, first + place) for place in range(self.width)]


def tiles_of(size: int) -> Iterator[Tile]:
    """Yield the tiles of a tree of *size* leaves: bundles first, then level by level."""
    yield from _row(ENTRIES, size)
    level = 0
    while size:
        yield from _row(level, size)
        size >>= _BITS
        level += 1


def bundle(leaves: Sequence[bytes]) -> bytes:
    """Return *leaves* as a bundle holds them: each after its length, a 16 bit number, high byte first.

    Raises OverflowError for a leaf that is longer than 65,535 bytes.
    """
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def unbundle(data: bytes) -> list[bytes]:
    """Return the leaves in a bundle; raises ValueError when it is cut off."""
    leaves = []
    place = 0
    while place < len(data):
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        if place + 2 > len(data) or end > len(data):
            message = "the bundle is cut off"
            raise ValueError(message)
        leaves.append(data[place + 2 : end])
        place = end
    return leaves


class Edge:
    """The right edge of a tree in tiles: the partial tile of each level. All that appending needs."""

    def __init__(self, rows: Sequence[Sequence[bytes]] = ()) -> None:
        """Take the hashes of the partial tile of each level, from 0 on (empty where the last one is full).

        Whether they are the right ones, the root tells.
        """
        self._rows = [list(row) for row in rows]
        self._size = sum(len(row) << _BITS * level for level, row in enumerate(rows))

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    def copy(self) -> Edge:
        """Return an edge that can grow without changing this one."""
        return Edge(self._rows)

    def leaves(self) -> tuple[bytes, ...]:
        """Return the hashes of the leaves after the last full tile."""
        return tuple(self._rows[0]) if self._rows else ()

    def append(self, leaf: bytes) -> list[tuple[Tile, bytes]]:
        """Add the leaf whose hash is *leaf*; return the tiles that it fills, with their content."""
        self._size += 1
        filled = []
        found: bytes | None = leaf
        level = 0
        while found is not None:
            if level == len(self._rows):
                self._rows.append([])
            row = self._rows[level]
            row.append(found)
            found = None
            if len(row) == WIDTH:
                number = (self._size >> _BITS * (level + 1)) - 1
                filled.append((Tile(level, number), b"".join(row)))
                found = _root(row)
                self._rows[level] = []
                level += 1
        return filled

    def partial(self) -> list[tuple[Tile, bytes]]:
        """Return the tiles at the edge, with their content."""
        return [
            (Tile(level, self._size >> _BITS * (level + 1), len(row)), b"".join(row))
            for level, row in enumerate(self._rows) if row
        ]  # fmt: skip

    def root(self) -> bytes:
        """Return the root of the tree."""
        peaks: list[bytes] = []
        for row in reversed(self._rows):
            peaks += _peaks(row)
        return Frontier(self._size, peaks).root()


def stored_hashes(indexes: Sequence[int], size: int, read: Callable[[Tile], bytes]) -> list[bytes]:
    """Return the stored hashes (see ``merkle.node_index``) at *indexes* of a tree of *size* leaves, from its
    tiles, which *read* gives. Nothing is verified: whoever asks compares what it gets with a root. Raises ValueError
    for a tile that is too short."""
    tiles: dict[Tile, bytes] = {}
    found = []
    for index in indexes:
        level, number = node_place(index)
        row, above = divmod(level, _BITS)
        first = number << above
        tile = Tile(row, first // WIDTH, min(WIDTH, (size >> _BITS * row) - first // WIDTH * WIDTH))
        if tile not in tiles:
            tiles[tile] = read(tile)
        place = first % WIDTH * HASH_SIZE
        part = tiles[tile][place : place + (HASH_SIZE << above)]
        if len(part) != HASH_SIZE << above:
            message = f"{tile.path} is too short"
            raise ValueError(message)
        found.append(_root([part[at : at + HASH_SIZE] for at in range(0, len(part), HASH_SIZE)]))
    return found


def edge_indexes(size: int) -> list[list[int]]:
    """Return the stored indexes (see ``merkle.node_index``) of the hashes at the edge of a tree of *size* leaves."""
    rows = []
    level = 0
    while size >> _BITS * level:
        count = size >> _BITS * level
        rows.append([node_index(_BITS * level, number) for number in range(count - count % WIDTH, count)])
        level += 1
    return rows


def _row(level: int, count: int) -> Iterator[Tile]:
    for number in range(count // WIDTH):
        yield Tile(level, number)
    if count % WIDTH:
        yield Tile(level, count // WIDTH, count % WIDTH)


def _number(number: int) -> str:
    text = f"{number % 1000:03}"
    while number := number // 1000:
        text = f"x{number % 1000:03}/{text}"
    return text


def _root(row: Sequence[bytes]) -> bytes:
    """Return the root over hashes, of which there are a power of two."""
    while len(row) > 1:
        row = [node_hash(row[place], row[place + 1]) for place in range(0, len(row), 2)]
    return row[0]


def _peaks(row: Sequence[bytes]) -> list[bytes]:
    """Return the roots of the perfect subtrees over *row*, largest first."""
    peaks = []
    low = 0
    for bit in range(_BITS - 1, -1, -1):
        if len(row) >> bit & 1:
            peaks.append(_root(row[low : low + (1 << bit)]))
            low += 1 << bit
    return peaks
