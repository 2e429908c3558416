"""The partition table of a disk. Source: UEFI 2.10, section 5.3."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from stelae.domain.units import MIB

SECTOR = 512
_ENTRIES, _ENTRY = 128, struct.Struct("<16s16sQQQ72s")
_TABLE = _ENTRIES * _ENTRY.size // SECTOR
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")

ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
ROOT_VERITY = UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
"""Kinds of partitions (Discoverable Partitions Specification, x86-64)."""

READ_ONLY = 1 << 60
"""A partition that is never written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition: ``kind`` and ``identity``, ``size`` in bytes, ``label`` (36 characters at most)."""

    kind: UUID
    identity: UUID
    size: int
    label: str
    flags: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where things are on a disk, in bytes: ``offsets`` of the partitions, ``size`` of the whole; ``head`` belongs at
    its beginning and ``tail`` at its end."""

    offsets: tuple[int, ...]
    size: int
    head: bytes
    tail: bytes


def table(partitions: Sequence[Partition], identity: UUID) -> Table:
    """Return the table of a disk that is just large enough; each partition begins at a whole MiB."""
    offsets, at = [], MIB
    for partition in partitions:
        offsets.append(at)
        at = _up(at + partition.size)
    size = _up(at + (_TABLE + 1) * SECTOR)
    entries = b"".join(
        _ENTRY.pack(
            partition.kind.bytes_le, partition.identity.bytes_le, offset // SECTOR,
            (offset + _up(partition.size)) // SECTOR - 1, partition.flags, partition.label.encode("utf-16-le"),
        )
        for partition, offset in zip(partitions, offsets, strict=True)
    ).ljust(_TABLE * SECTOR, b"\0")  # fmt: skip
    last = size // SECTOR - 1
    first = _header(1, last, 2, last, identity, entries)
    second = _header(last, 1, last - _TABLE, last, identity, entries)
    return Table(offsets=tuple(offsets), size=size, head=_protective(last) + first + entries, tail=entries + second)


def _header(own: int, other: int, entries_at: int, last: int, identity: UUID, entries: bytes) -> bytes:
    def pack(check: int) -> bytes:
        return _HEADER.pack(
            b"EFI PART", 0x00010000, _HEADER.size, check, 0, own, other, 2 + _TABLE, last - _TABLE - 1,
            identity.bytes_le, entries_at, _ENTRIES, _ENTRY.size, zlib.crc32(entries),
        )  # fmt: skip

    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")


def _protective(last: int) -> bytes:
    """Return the first sector: for what knows no such table, one partition of a kind that it leaves alone."""
    entry = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    return b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa"


def _up(value: int) -> int:
    return -(-value // MIB) * MIB
