"""The partition that firmware reads: FAT32 with one file, EFI/BOOT/BOOTX64.EFI.

Written here, because there is one file of which everything is known: so no time, serial number or order comes from
anywhere else. Source: Microsoft's FAT32 File System Specification, version 1.03; UEFI 2.10, section 13.3.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from stelae.build.disk.packages import FILE_TIME
from stelae.domain.units import MIB

NAME = b"BOOTX64 EFI"
SECTOR = 512
_RESERVED, _FATS = 32, 2
_FIRST = 5  # clusters 2, 3 and 4 are the three folders
_END = 0x0FFFFFFF
_LEAST = 34 * MIB  # FAT32 has at least 65,525 clusters, and here a cluster is one sector
_FOLDER, _LABEL, _FILE = 0x10, 0x08, 0x20


def esp(program: bytes, serial: int) -> tuple[bytes, int]:
    """Return the partition that has *program*, up to its last byte that is not zero, and its whole size in bytes;
    *serial* is the number of the file system (32 bits)."""
    used = _FIRST - 2 + -(-len(program) // SECTOR)
    size = max(_LEAST, -(-(used * (SECTOR + 4 * _FATS) + MIB) // MIB) * MIB)
    sectors = size // SECTOR
    fat = -(-(sectors - _RESERVED + 2) * 4 // SECTOR)
    clusters = sectors - _RESERVED - _FATS * fat
    boot = _boot_sector(sectors, fat, serial)
    info = _info_sector(clusters - used, _FIRST + used - (_FIRST - 2))
    reserved = (boot + info).ljust(6 * SECTOR, b"\0") + boot + info
    chains = [0x0FFFFFF8, _END, _END, _END, _END]
    count = used - (_FIRST - 2)
    chains += [*range(_FIRST + 1, _FIRST + count), _END]
    table = struct.pack(f"<{len(chains)}I", *chains).ljust(fat * SECTOR, b"\0")
    folders = (
        _entry(b"ESP        ", _LABEL, 0, 0) + _entry(b"EFI        ", _FOLDER, 3, 0),
        _entry(b".          ", _FOLDER, 3, 0) + _entry(b"..         ", _FOLDER, 0, 0)
        + _entry(b"BOOT       ", _FOLDER, 4, 0),
        _entry(b".          ", _FOLDER, 4, 0) + _entry(b"..         ", _FOLDER, 3, 0)
        + _entry(NAME, _FILE, _FIRST, len(program)),
    )  # fmt: skip
    data = b"".join(entries.ljust(SECTOR, b"\0") for entries in folders) + program
    return reserved.ljust(_RESERVED * SECTOR, b"\0") + table * _FATS + data, size


def _boot_sector(sectors: int, fat: int, serial: int) -> bytes:
    fields = struct.pack(
        "<3s8sHBHBHHBHHHIIIHHIHH12sBBBI11s8s",
        b"\xeb\x58\x90", b"STELAE  ", SECTOR, 1, _RESERVED, _FATS, 0, 0, 0xF8, 0, 32, 64, 0, sectors,
        fat, 0, 0, 2, 1, 6, b"", 0x80, 0, 0x29, serial, b"ESP        ", b"FAT32   ",
    )  # fmt: skip
    return fields.ljust(510, b"\0") + b"\x55\xaa"


def _info_sector(free: int, following: int) -> bytes:
    return struct.pack("<I480xIII12xI", 0x41615252, 0x61417272, free, following, 0xAA550000)


def _entry(name: bytes, kind: int, cluster: int, size: int) -> bytes:
    moment = datetime.fromtimestamp(FILE_TIME, UTC)
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return struct.pack(
        "<11sBBBHHHHHHHI", name, kind, 0, 0, time, date, date, cluster >> 16, time, date, cluster & 0xFFFF, size
    )
