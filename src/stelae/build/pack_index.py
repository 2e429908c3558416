"""Looks object ids up in the indexes of git's packs, without a process of git.

Source: gitformat-pack(5), "Version 2 pack-*.idx files": eight bytes of head; for each first byte of an id, how many
ids come up to it; then the ids, sorted.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

_HEAD = b"\xfftOc\x00\x00\x00\x02"
_FANOUT = 256 * 4


def lacking(folder: Path, ids: Sequence[str]) -> list[str]:
    """Return those of *ids* that no pack in *folder* holds, in their order. An index that cannot be read counts for
    nothing, such as one that a merge of packs takes away just now: git takes an object that it has already."""
    wanted = {name: bytes.fromhex(name) for name in ids}
    for path in folder.glob("pack-*.idx"):
        if not wanted:
            break
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as index:
                if index[:8] == _HEAD:
                    wanted = {name: key for name, key in wanted.items() if not _holds(index, key)}
        except (FileNotFoundError, ValueError, struct.error):
            continue
    return [name for name in ids if name in wanted]


def _holds(index: mmap.mmap, key: bytes) -> bool:
    ids = _Ids(index, len(key))
    first = ids.up_to(key[0] - 1) if key[0] else 0
    last = ids.up_to(key[0])
    at = bisect_left(ids, key, first, last)
    return at < last and ids[at] == key


class _Ids:
    """The ids of an index, each of *width* bytes."""

    def __init__(self, index: mmap.mmap, width: int) -> None:
        self._index = index
        self._width = width

    def up_to(self, byte: int) -> int:
        """Return how many ids have a first byte of at most *byte*."""
        found: tuple[int] = struct.unpack_from(">I", self._index, 8 + byte * 4)
        return found[0]

    def __len__(self) -> int:
        return self.up_to(255)

    def __getitem__(self, at: int) -> bytes:
        start = 8 + _FANOUT + at * self._width
        return self._index[start : start + self._width]
