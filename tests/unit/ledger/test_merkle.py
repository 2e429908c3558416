"""The tree: the vectors of the RFC's reference implementation, every proof of small trees, mangled proofs."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest

from stelae.core import merkle

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = ["6e340b9c", "fac54203", "aeb6bcfe", "d37ee418", "4e3bbb1f", "76e67dad", "ddb89be4", "5dc9da79"]
SIZE = 130


class Store:
    """Stored hashes of a growing tree, with a count of what was read."""

    def __init__(self, size: int) -> None:
        self.leaves = [merkle.leaf_hash(b"leaf %d" % n) for n in range(size)]
        self.hashes: list[bytes] = []
        self.reads = 0
        frontier = merkle.Frontier()
        for leaf in self.leaves:
            self.hashes += frontier.append(leaf)

    def read(self, indexes: Sequence[int]) -> list[bytes]:
        self.reads += len(indexes)
        return [self.hashes[index] for index in indexes]


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(SIZE)


def specified_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as the RFC writes it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + specified_root(leaves[:split]) + specified_root(leaves[split:])).digest()


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
    assert [merkle.root(hashes[: n + 1]).hex()[:8] for n in range(8)] == ROOTS
    assert merkle.root(hashes[:1]).hex().endswith("fa01d")
    assert merkle.root(hashes).hex().endswith("4328")


def test_stored_indexes_are_dense_and_in_the_order_of_appending(store: Store) -> None:
    seen = {}
    for level in range(8):
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
    store = Store(5000)
    for index in (0, 1, 2500, 4095, 4096, 4999):
        store.reads = 0
        merkle.inclusion_proof(index, 5000, store.read)
        assert store.reads <= 2 * 13
    store.reads = 0
    merkle.consistency_proof(1234, 5000, store.read)
    assert store.reads <= 3 * 13
