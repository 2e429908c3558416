"""The tree: the vectors of the RFC's reference implementation, every proof of small trees, mangled proofs."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.core import merkle

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAF_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
NODE_2_3 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
NODE_4_7 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
LEAF_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
NODE_4_5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
NODE_6_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
PATHS = {
    (0, 1): [],
    (0, 8): [LEAF_1, NODE_2_3, NODE_4_7],
    (5, 8): [LEAF_4, NODE_6_7, ROOTS[3]],
    (2, 3): [ROOTS[1]],
    (1, 5): [ROOTS[0], NODE_2_3, LEAF_4],
}
PROOFS = {
    (1, 1): [],
    (1, 8): [LEAF_1, NODE_2_3, NODE_4_7],
    (6, 8): [NODE_4_5, NODE_6_7, ROOTS[3]],
    (2, 5): [NODE_2_3, LEAF_4],
}
"""Inclusion and consistency proofs of the reference implementation, by (leaf or old size, size)."""

SIZE = int(os.environ.get("STELAE_TREE", "300"))


class Store:
    """Stored hashes of a growing tree, with a count of what was read."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = list(leaves)
        self.hashes: list[bytes] = []
        self.reads = 0
        frontier = merkle.Frontier()
        for leaf in self.leaves:
            self.hashes += frontier.append(leaf)

    def read(self, indexes: Sequence[int]) -> list[bytes]:
        self.reads += len(indexes)
        return [self.hashes[index] for index in indexes]


def grown(size: int) -> Store:
    return Store([merkle.leaf_hash(b"leaf %d" % n) for n in range(size)])


@pytest.fixture(scope="module")
def store() -> Store:
    return grown(SIZE)


_MADE: dict[tuple[bytes, bytes, int], bytes] = {}


def specified_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as the RFC writes it; a root is computed once, as all leaves differ."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    key = leaves[0], leaves[-1], len(leaves)
    if key not in _MADE:
        split = 1
        while split * 2 < len(leaves):
            split *= 2
        both = specified_root(leaves[:split]) + specified_root(leaves[split:])
        _MADE[key] = hashlib.sha256(b"\x01" + both).digest()
    return _MADE[key]


def specified_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH as the RFC writes it."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*specified_path(index, leaves[:split]), specified_root(leaves[split:])]
    return [*specified_path(index - split, leaves[split:]), specified_root(leaves[:split])]


def specified_proof(old: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF as the RFC writes it."""
    if old == len(leaves):
        return [] if whole else [specified_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*specified_proof(old, leaves[:split], whole), specified_root(leaves[split:])]
    return [*specified_proof(old - split, leaves[split:], False), specified_root(leaves[:split])]


def test_the_roots_of_the_reference_vectors() -> None:
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    hashes = [merkle.leaf_hash(data) for data in LEAVES]
    assert [merkle.root(hashes[: n + 1]).hex() for n in range(8)] == ROOTS


def test_the_proofs_of_the_reference_vectors() -> None:
    store = Store([merkle.leaf_hash(data) for data in LEAVES])
    roots = [bytes.fromhex(text) for text in ROOTS]
    for (index, size), path in PATHS.items():
        given_ = [bytes.fromhex(text) for text in path]
        assert list(merkle.inclusion_proof(index, size, store.read)) == given_
        assert merkle.verify_inclusion(store.leaves[index], index, size, given_, roots[size - 1])
    for (old, size), proof in PROOFS.items():
        given_ = [bytes.fromhex(text) for text in proof]
        assert list(merkle.consistency_proof(old, size, store.read)) == given_
        assert merkle.verify_consistency(old, roots[old - 1], size, roots[size - 1], given_)


def test_stored_indexes_are_dense_and_in_the_order_of_appending(store: Store) -> None:
    seen = {}
    for level in range(SIZE.bit_length()):
        for number in range(SIZE >> level):
            index = merkle.node_index(level, number)
            assert index not in seen
            seen[index] = (level, number)
            low = number << level
            assert store.hashes[index] == specified_root(store.leaves[low : low + (1 << level)])
    assert sorted(seen) == list(range(merkle.node_count(SIZE))) == list(range(len(store.hashes)))


def test_every_root(store: Store) -> None:
    for size in range(SIZE + 1):
        expected = specified_root(store.leaves[:size])
        assert merkle.root(store.leaves[:size]) == expected
        assert merkle.root_at(size, store.read) == expected


def test_every_inclusion_proof(store: Store) -> None:
    for size in range(1, SIZE + 1):
        root = merkle.root_at(size, store.read)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, store.read)
            assert list(proof) == specified_path(index, store.leaves[:size])
            assert merkle.verify_inclusion(store.leaves[index], index, size, proof, root)


def test_every_consistency_proof(store: Store) -> None:
    roots = [merkle.root_at(size, store.read) for size in range(SIZE + 1)]
    for size in range(SIZE + 1):
        for old in range(size + 1):
            proof = merkle.consistency_proof(old, size, store.read)
            if old:
                assert list(proof) == specified_proof(old, store.leaves[:size])
            assert merkle.verify_consistency(old, roots[old], size, roots[size], proof)


def mangled(proof: Sequence[bytes]) -> list[list[bytes]]:
    """Proofs that are nearly *proof*: a bit flipped, one hash less, one more, two swapped, bytes moved."""
    found = []
    for place in range(len(proof)):
        flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        found.append([*proof[:place], flipped, *proof[place + 1 :]])
        found.append([*proof[:place], *proof[place + 1 :]])
        found.append([*proof[:place], proof[place], *proof[place:]])
    for place in range(len(proof) - 1):
        found.append([*proof[:place], proof[place + 1], proof[place], *proof[place + 2 :]])
        joined = proof[place] + proof[place + 1]
        found.append([*proof[:place], joined[:31], joined[31:], *proof[place + 2 :]])
    return [*found, [*proof, merkle.EMPTY_ROOT]]


def test_mangled_inclusion_proofs_fail(store: Store) -> None:
    chance = random.Random(7)
    for _ in range(300):
        size = chance.randint(2, SIZE)
        index = chance.randrange(size)
        leaf = store.leaves[index]
        root = merkle.root_at(size, store.read)
        proof = merkle.inclusion_proof(index, size, store.read)
        assert not any(merkle.verify_inclusion(leaf, index, size, wrong, root) for wrong in mangled(proof))
        for other in {index + 1, index - 1, size, -1, index + size} - {index}:
            assert not merkle.verify_inclusion(leaf, other, size, proof, root)
        assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
        assert not merkle.verify_inclusion(leaf, index, size, proof, merkle.EMPTY_ROOT)
        assert not merkle.verify_inclusion(leaf, index, 0, proof, root)


def test_mangled_consistency_proofs_fail(store: Store) -> None:
    chance = random.Random(8)
    for _ in range(300):
        size = chance.randint(2, SIZE)
        old = chance.randint(1, size - 1)
        roots = merkle.root_at(old, store.read), merkle.root_at(size, store.read)
        proof = merkle.consistency_proof(old, size, store.read)
        for wrong in mangled(proof):
            assert not merkle.verify_consistency(old, roots[0], size, roots[1], wrong)
        assert not merkle.verify_consistency(old, roots[1], size, roots[1], proof)
        assert not merkle.verify_consistency(old, roots[0], size, roots[0], proof)
        assert not merkle.verify_consistency(size, roots[1], old, roots[0], proof)
        assert not merkle.verify_consistency(-1, roots[0], size, roots[1], proof)
        assert not merkle.verify_consistency(0, roots[0], size, roots[1], [])
        assert not merkle.verify_consistency(size, roots[0], size, roots[1], [])


def test_a_copy_of_an_edge_grows_alone(store: Store) -> None:
    edge = merkle.Frontier(3, store.read(merkle.frontier_indexes(3)))
    copy = edge.copy()
    copy.append(store.leaves[3])
    assert (edge.size, edge.root()) == (3, merkle.root_at(3, store.read))
    assert (copy.size, copy.root()) == (4, merkle.root_at(4, store.read))


def test_no_tree_begins_with_a_larger_one(store: Store) -> None:
    for old in range(1, 40):
        for size in range(old):
            root = merkle.root_at(old, store.read)
            assert not merkle.verify_consistency(old, root, size, root, [])


def test_bytes_cannot_move_from_a_leaf_to_the_proof_or_back(store: Store) -> None:
    leaf, [sibling] = store.leaves[0], merkle.inclusion_proof(0, 2, store.read)
    root, both = merkle.root_at(2, store.read), leaf + sibling
    for cut in (0, 31, 33, 64):
        assert not merkle.verify_inclusion(both[:cut], 0, 2, [both[cut:]], root)
        assert not merkle.verify_consistency(1, both[:cut], 2, root, [both[cut:]])
    assert not merkle.verify_inclusion(b"short", 0, 1, [], b"short")
    assert not merkle.verify_consistency(1, b"short", 1, b"short", [])


def test_a_proof_of_what_is_not_there_cannot_be_asked_for(store: Store) -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="is not in a tree"):
            merkle.inclusion_proof(index, size, store.read)
    for old, size in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="never had"):
            merkle.consistency_proof(old, size, store.read)
    with pytest.raises(ValueError, match="perfect subtrees"):
        merkle.Frontier(3, [merkle.EMPTY_ROOT])


def test_proofs_need_few_reads() -> None:
    store = grown(5000)
    for index in (0, 1, 2500, 4095, 4096, 4999):
        store.reads = 0
        merkle.inclusion_proof(index, 5000, store.read)
        assert store.reads <= 2 * 13
    store.reads = 0
    merkle.consistency_proof(1234, 5000, store.read)
    assert store.reads <= 3 * 13


FOREST = grown(40)
OTHER = [merkle.node_hash(left, right) for left, right in zip(FOREST.hashes, FOREST.hashes[1:], strict=False)]


@st.composite
def forged(draw: st.DrawFn, right: Sequence[bytes]) -> list[bytes]:
    """Hashes that somebody could put together: of the tree, in any order and number, or of their own making."""
    pieces = st.sampled_from([*FOREST.hashes, *OTHER, merkle.EMPTY_ROOT, b"", bytes(32), bytes(31), bytes(64)])
    made = draw(st.just(list(right)) | st.lists(pieces, max_size=8))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(made)))
        made[place : place + draw(st.integers(0, 1))] = draw(st.lists(pieces, max_size=1))
    return made


@given(st.data())
def test_a_leaf_is_shown_by_its_own_proof_and_by_no_other(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    index = data.draw(st.integers(0, size - 1))
    told = data.draw(st.just(index) | st.integers(-1, 41))
    right = merkle.inclusion_proof(index, size, FOREST.read)
    proof = data.draw(forged(right))
    root = merkle.root_at(size, FOREST.read)
    assert merkle.verify_inclusion(FOREST.leaves[index], told, size, proof, root) is (
        (told, tuple(proof)) == (index, right)
    )


@given(st.data())
def test_growth_is_shown_by_its_own_proof_and_by_no_other(data: st.DataObject) -> None:
    old, size = sorted(data.draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
    other = data.draw(st.integers(0, 40))
    roots = [merkle.root_at(number, FOREST.read) for number in (old, size, other)]
    right = merkle.consistency_proof(old, size, FOREST.read)
    proof = data.draw(forged(right))
    assert merkle.verify_consistency(old, roots[0], size, roots[1], proof) is (tuple(proof) == right)
    if other != old:
        assert not merkle.verify_consistency(old, roots[2], size, roots[1], proof)
    if other != size and old:  # of a tree that was empty, any tree is the growth
        assert not merkle.verify_consistency(old, roots[0], size, roots[2], proof)
