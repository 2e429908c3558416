"""Tiles against a slow and direct implementation, at sizes around every edge."""

from __future__ import annotations

from hashlib import sha256

import pytest

from stelae.core import merkle
from stelae.core.tiles import ENTRIES, Edge, Tile, bundle, edge_indexes, stored_hashes, tiles_of, unbundle

SIZES = [0, 1, 2, 3, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, 70_000]


@pytest.fixture(scope="module")
def leaves() -> list[bytes]:
    return [sha256(b"\x00" + str(number).encode()).digest() for number in range(70_000)]


@pytest.fixture(scope="module")
def levels(leaves: list[bytes]) -> list[list[bytes]]:
    """The whole tree, level by level: only whole nodes."""
    rows = [leaves]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)])
    return rows


def directly(levels: list[list[bytes]], size: int) -> dict[str, bytes]:
    """The tiles of the first *size* leaves, hash by hash."""
    found = {}
    for level in range(3):
        count = size // 256**level
        for number in range((count + 255) // 256):
            row = levels[8 * level][number * 256 : min(count, number * 256 + 256)]
            found[Tile(level, number, len(row)).path] = b"".join(row)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_the_tiles_of_a_tree(leaves: list[bytes], levels: list[list[bytes]], size: int) -> None:
    edge, made = Edge(), {}
    for leaf in leaves[:size]:
        made.update({tile.path: data for tile, data in edge.append(leaf)})
    made.update({tile.path: data for tile, data in edge.partial()})
    assert made == directly(levels, size)
    assert {tile.path for tile in tiles_of(size) if tile.level != ENTRIES} == made.keys()
    assert (edge.size, edge.root()) == (size, merkle.root(leaves[:size]))
    assert edge.leaves() == tuple(leaves[size - size % 256 : size])


@pytest.mark.parametrize("size", SIZES)
def test_an_edge_that_was_read_again_goes_on(leaves: list[bytes], levels: list[list[bytes]], size: int) -> None:
    stored = [found for frontier in [merkle.Frontier()] for leaf in leaves[:size] for found in frontier.append(leaf)]
    edge = Edge([[stored[index] for index in row] for row in edge_indexes(size)])
    assert (edge.size, edge.root()) == (size, merkle.root(leaves[:size]))
    made = dict(edge.copy().partial())
    for leaf in leaves[size : size + 300]:
        made.update(edge.append(leaf))
    made.update(edge.partial())
    whole = directly(levels, min(size + 300, 70_000)) | directly(levels, size)
    assert {tile.path: data for tile, data in made.items()}.items() <= whole.items()


def test_a_copy_of_an_edge_is_another(leaves: list[bytes]) -> None:
    edge = Edge()
    edge.append(leaves[0])
    other = edge.copy()
    other.append(leaves[1])
    assert (edge.size, edge.root(), other.size) == (1, leaves[0], 2)


def test_which_tiles_a_tree_of_70000_has() -> None:
    """The example of the specification."""
    tiles = list(tiles_of(70_000))
    row = [tile for tile in tiles if tile.level == 0]
    assert (len(row), row[-1].width, sum(tile.width == 256 for tile in row)) == (274, 112, 273)
    assert [tile for tile in tiles if tile.level == 1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert [tile for tile in tiles if tile.level == 2] == [Tile(2, 0, 1)]
    assert len(tiles) == 2 * 274 + 2 + 1
    assert tiles.index(Tile(ENTRIES, 273, 112)) < tiles.index(Tile(0, 0))


def test_where_tiles_are() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(2, 0, 1).path == "tile/2/000.p/1"
    assert Tile(0, 1000, 255).path == "tile/0/x001/000.p/255"
    assert Tile(ENTRIES, 273, 112).path == "tile/entries/273.p/112"
    assert Tile(0, 273, 112).partials == "tile/0/273.p"
    assert (Tile(ENTRIES, 2).first, Tile(0, 2).first, Tile(1, 2).first) == (512, 512, 131_072)


def test_bundles_of_leaves() -> None:
    leaves = [b"", b"a", b"x" * 65_535]
    data = bundle(leaves)
    assert data[:5] == b"\x00\x00\x00\x01a"
    assert unbundle(data) == leaves
    assert unbundle(b"") == []
    with pytest.raises(OverflowError):
        bundle([b"x" * 65_536])
    for end in (1, 3, 4, len(data) - 1):
        with pytest.raises(ValueError, match="cut off"):
            unbundle(data[:end])


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 513, SIZES[-1]])
def test_every_stored_hash_is_in_the_tiles(leaves: list[bytes], size: int) -> None:
    frontier, edge, tiles = merkle.Frontier(), Edge(), dict[Tile, bytes]()
    nodes = [found for leaf in leaves[:size] for found in frontier.append(leaf)]
    for leaf in leaves[:size]:
        tiles.update(edge.append(leaf))
    tiles.update(edge.partial())
    assert stored_hashes(range(len(nodes)), size, tiles.__getitem__) == nodes
    for index in range(len(nodes)):
        assert merkle.node_index(*merkle.node_place(index)) == index
    with pytest.raises(ValueError, match="is too short"):
        stored_hashes([len(nodes) - 1], size, lambda _: b"x" * 31)
