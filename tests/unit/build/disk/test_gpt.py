"""The partition table: what is read back of it, and that each byte is checked."""

from __future__ import annotations

import struct
import zlib
from uuid import UUID, uuid5

from stelae.build.disk import gpt
from stelae.domain.units import MIB

SELF = UUID("12345678-1234-5678-9abc-def012345678")
PARTS = [
    gpt.Partition(kind=gpt.ESP, identity=uuid5(SELF, "esp"), size=34 * MIB, label="esp"),
    gpt.Partition(kind=gpt.ROOT, identity=uuid5(SELF, "root"), size=5 * MIB + 1, label="root", flags=gpt.READ_ONLY),
    gpt.Partition(kind=gpt.ROOT_VERITY, identity=uuid5(SELF, "tree"), size=4096, label="t" * 36),
]


def test_each_partition_has_whole_mebibytes_of_its_own() -> None:
    table = gpt.table(PARTS, SELF)
    assert table.offsets == (MIB, 35 * MIB, 41 * MIB)
    assert table.size == 43 * MIB


def test_both_headers_are_whole_and_know_each_other() -> None:
    table = gpt.table(PARTS, SELF)
    last = table.size // 512 - 1
    for header, own, other, entries in (
        (table.head[512:1024], 1, last, table.head[1024:]),
        (table.tail[-512:], last, 1, table.tail[:-512]),
    ):
        fields = struct.unpack_from("<8sIIIIQQQQ16sQIII", header)
        assert fields[0] == b"EFI PART"
        assert fields[3] == zlib.crc32(header[:16] + b"\0\0\0\0" + header[20:92])
        assert (fields[5], fields[6]) == (own, other)
        assert fields[13] == zlib.crc32(entries)
        assert len(entries) == 128 * 128
    assert table.head[510:512] == b"\x55\xaa"
    assert table.head[450] == 0xEE


def test_an_entry_says_kind_identity_place_and_label() -> None:
    table = gpt.table(PARTS, SELF)
    kind, identity, first, final, flags, label = struct.unpack_from("<16s16sQQQ72s", table.head, 1024 + 128)
    assert UUID(bytes_le=kind) == gpt.ROOT
    assert UUID(bytes_le=identity) == uuid5(SELF, "root")
    assert (first * 512, (final + 1) * 512, flags) == (35 * MIB, 41 * MIB, 1 << 60)
    assert label.decode("utf-16-le").rstrip("\0") == "root"
