"""The hash tree of dm-verity over a file, by which a kernel checks each block that it reads.

Source: the kernel's Documentation/admin-guide/device-mapper/verity.rst (version 1: the salt comes first), and the
superblock of cryptsetup's wiki page DMVerity.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

BLOCK = 4096
"""Bytes of a block of the data, and of the tree."""

_FAN_OUT = BLOCK // 32
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """``data`` is the superblock and the tree; ``root_hash`` is 64 hexadecimal digits."""

    data: bytes
    root_hash: str


def hash_tree(file: Path, *, salt: bytes, identity: UUID) -> Tree:
    """Return the tree over *file*, whose size is a multiple of ``BLOCK``; *identity* is the tree's UUID."""
    seed = hashlib.sha256(salt)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count = len(data) // BLOCK
        view = memoryview(data)
        try:
            digests = _digests(seed, (view[at : at + BLOCK] for at in range(0, len(data), BLOCK)))
        finally:
            view.release()
    levels: list[bytes] = []
    while len(digests) > 1:
        level = b"".join(
            b"".join(digests[at : at + _FAN_OUT]).ljust(BLOCK, b"\0") for at in range(0, len(digests), _FAN_OUT)
        )
        levels.insert(0, level)
        digests = _digests(seed, (level[at : at + BLOCK] for at in range(0, len(level), BLOCK)))
    superblock = _SUPERBLOCK.pack(
        b"verity", 1, 1, identity.bytes, b"sha256", BLOCK, BLOCK, count, len(salt), salt
    )  # fmt: skip
    return Tree(data=superblock.ljust(BLOCK, b"\0") + b"".join(levels), root_hash=digests[0].hex())


def _digests(seed: hashlib._Hash, blocks: Iterable[bytes | memoryview]) -> list[bytes]:
    found = []
    for block in blocks:
        one = seed.copy()
        one.update(block)
        found.append(one.digest())
    return found
