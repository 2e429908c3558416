"""Merkle trees of RFC 6962 (section 2.1, the same as RFC 9162 section 2.1), as pure functions.

``leaf = SHA-256(0x00 ‖ data)``, ``node = SHA-256(0x01 ‖ left ‖ right)``, the root of nothing is the SHA-256 of
no bytes. A tree is split at the largest power of two below its size; a lone right node is promoted, never doubled.

Only the roots of *perfect* subtrees are stored, densely, in the order in which they come to be: leaf by leaf,
each followed by the subtrees that it completes (the scheme of Go's ``golang.org/x/mod/sumdb/tlog``). A tree of n
leaves has ``2n - popcount(n)`` stored hashes; none ever changes, and a root or a proof needs O(log n) of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

HASH_SIZE = 32

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves."""

Reader = Callable[[Sequence[int]], Sequence[bytes]]
"""Gives the stored hashes at these stored indexes, in this order."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds *data*."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def node_index(level: int, number: int) -> int:
    """Return the stored index of the perfect subtree *number* of *level* (level 0 are the leaves)."""
    last_leaf = ((number + 1) << level) - 1
    return node_count(last_leaf) + level


def node_count(size: int) -> int:
    """Return how many hashes are stored for a tree of *size* leaves."""
    return 2 * size - size.bit_count()


def node_place(index: int) -> tuple[int, int]:
    """Return the level and the number there of the stored index *index*: what ``node_index`` was made of."""
    leaf = index // 2
    while node_count(leaf + 1) <= index:
        leaf += 1
    level = index - node_count(leaf)
    return level, leaf >> level


class Frontier:
    """The right edge of a tree: the roots of its perfect subtrees, largest first. All that appending needs."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Take the edge of a tree of *size* leaves; raises ValueError when *peaks* are not as many as it has."""
        if size < 0 or len(peaks) != size.bit_count():
            message = f"a tree of {size} leaves does not have {len(peaks)} perfect subtrees"
            raise ValueError(message)
        self.size = size
        self._peaks = list(peaks)

    def copy(self) -> Frontier:
        """Return an edge that can grow without changing this one."""
        return Frontier(self.size, self._peaks)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add the leaf whose hash is *leaf*; return the hashes to store, in the order of their stored indexes."""
        added = [leaf]
        remaining = self.size
        while remaining & 1:
            leaf = sha256(b"\x01" + self._peaks.pop() + leaf).digest()
            added.append(leaf)
            remaining >>= 1
        self._peaks.append(leaf)
        self.size += 1
        return added

    def root(self) -> bytes:
        """Return the root of the tree."""
        return _fold(self._peaks) if self._peaks else EMPTY_ROOT


def frontier_indexes(size: int) -> tuple[int, ...]:
    """Return the stored indexes of the frontier of a tree of *size* leaves, largest subtree first."""
    return _stored(0, size)


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def root_at(size: int, read: Reader) -> bytes:
    """Return the root that the tree had when it had *size* leaves."""
    return Frontier(size, read(frontier_indexes(size))).root()


def inclusion_proof(index: int, size: int, read: Reader) -> tuple[bytes, ...]:
    """Return the proof (``PATH`` of the RFC) that leaf *index* is in the tree of *size* leaves.

    Raises ValueError when there is no such leaf.
    """
    if not 0 <= index < size:
        message = f"leaf {index} is not in a tree of {size}"
        raise ValueError(message)
    low, high = 0, size
    ranges = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return _range_roots(ranges[::-1], read)


def consistency_proof(old: int, size: int, read: Reader) -> tuple[bytes, ...]:
    """Return the proof (``PROOF`` of the RFC) that the tree of *size* leaves begins with that of *old* leaves.

    It is empty when *old* is 0 or *size*. Raises ValueError when *old* is not between 0 and *size*.
    """
    if not 0 <= old <= size:
        message = f"a tree of {size} leaves never had {old}"
        raise ValueError(message)
    if old in (0, size):
        return ()
    low, high = 0, size
    ranges = []
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    if low > 0:
        ranges.append((low, high))
    return _range_roots(ranges[::-1], read)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """True when *proof* shows that the leaf hash *leaf* is leaf *index* of the tree with this size and root."""
    if not 0 <= index < size:
        return False
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border or not _hashes(leaf, root, *proof):
        return False
    found = leaf
    for level, sibling in enumerate(proof):
        from_left = level >= inner or index >> level & 1
        found = node_hash(sibling, found) if from_left else node_hash(found, sibling)
    return found == root


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """True when *proof* shows that the tree with this size and root begins with the one of *old* leaves."""
    if not 0 <= old <= size or not _hashes(old_root, root, *proof):
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if old == size:
        return not proof and old_root == root
    inner = (old - 1 ^ size - 1).bit_length()
    border = (old - 1 >> inner).bit_count()
    shift = (old & -old).bit_length() - 1
    whole = old == 1 << shift
    path = [old_root, *proof] if whole else list(proof)
    if len(path) != 1 + inner - shift + border:
        return False
    old_found = found = path[0]
    place = old - 1 >> shift
    for level, sibling in enumerate(path[1:]):
        if level >= inner - shift or place >> level & 1:
            old_found = node_hash(sibling, old_found)
            found = node_hash(sibling, found)
        else:
            found = node_hash(found, sibling)
    return old_found == old_root and found == root


def _split(size: int) -> int:
    """Return the largest power of two below *size*."""
    return 1 << (size - 1).bit_length() - 1


def _stored(low: int, high: int) -> tuple[int, ...]:
    """Return the stored indexes of the perfect subtrees that make up the leaves from *low* to *high*.

    *low* is a multiple of the largest power of two that is not above ``high - low``; every range of a proof is so.
    """
    indexes = []
    while low < high:
        level = (high - low).bit_length() - 1
        indexes.append(node_index(level, low >> level))
        low += 1 << level
    return tuple(indexes)


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Return the root over perfect subtrees, largest first."""
    found = peaks[-1]
    for left in peaks[-2::-1]:
        found = node_hash(left, found)
    return found


def _range_roots(ranges: Sequence[tuple[int, int]], read: Reader) -> tuple[bytes, ...]:
    """Return the root of each range of leaves, with one call of *read*."""
    parts = [_stored(low, high) for low, high in ranges]
    hashes = iter(read([index for part in parts for index in part]))
    return tuple(_fold([next(hashes) for _ in part]) for part in parts)


def _hashes(*values: bytes) -> bool:
    """True when each of *values* is as long as a hash: else a proof could move bytes from one to the next."""
    return all(len(value) == HASH_SIZE for value in values)
