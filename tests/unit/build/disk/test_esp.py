"""The firmware's partition, read back by the rules of FAT32."""

from __future__ import annotations

import struct

import pytest

from stelae.build.disk.esp import esp
from stelae.domain.units import MIB


class Fat:
    """A reader of FAT32 that knows nothing of the writer."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data = data.ljust(size, b"\0")
        (self.sector, self.cluster, reserved, fats) = struct.unpack_from("<HBHB", data, 11)
        (self.sectors, per_fat) = struct.unpack_from("<II", data, 32)
        (self.root,) = struct.unpack_from("<I", data, 44)
        self.tables = [reserved * self.sector + number * per_fat * self.sector for number in range(fats)]
        self.first = (reserved + fats * per_fat) * self.sector
        self.clusters = (self.sectors * self.sector - self.first) // self.sector // self.cluster

    def chain(self, cluster: int) -> bytes:
        """Return what is in the clusters from *cluster* on."""
        pieces = []
        while cluster < 0x0FFFFFF8:
            at = self.first + (cluster - 2) * self.sector * self.cluster
            pieces.append(self.data[at : at + self.sector * self.cluster])
            (cluster,) = struct.unpack_from("<I", self.data, self.tables[0] + 4 * cluster)
        return b"".join(pieces)

    def entries(self, cluster: int) -> dict[bytes, tuple[int, int, int, bytes]]:
        """Return kind, first cluster, size and times of what is in a folder."""
        data, found = self.chain(cluster), {}
        for at in range(0, len(data), 32):
            if data[at]:
                high, _, _, low, size = struct.unpack_from("<HHHHI", data, at + 20)
                times = data[at + 13 : at + 20] + data[at + 22 : at + 26]
                found[data[at : at + 11]] = (data[at + 11], high << 16 | low, size, times)
        return found


@pytest.mark.parametrize("length", [1, 511, 512, 513, 20 * MIB + 7, 70 * MIB])
def test_the_program_is_found_where_firmware_looks_for_it(length: int) -> None:
    program = (b"MZ" + bytes(range(251)) * (length // 251 + 1))[:length]
    data, size = esp(program, 0x1234ABCD)
    fat = Fat(data, size)
    assert len(data) <= size == fat.sectors * fat.sector
    assert fat.clusters >= 65_525  # fewer would be FAT16
    efi = fat.entries(fat.root)[b"EFI        "]
    boot = fat.entries(efi[1])[b"BOOT       "]
    found = fat.entries(boot[1])[b"BOOTX64 EFI"]
    assert (efi[0], boot[0], found[0], found[2]) == (0x10, 0x10, 0x20, length)
    assert fat.chain(found[1])[:length] == program
    assert fat.entries(boot[1])[b"..         "][1] == efi[1]
    assert fat.entries(efi[1])[b"..         "][1] == 0
    both = [fat.data[at : at + fat.tables[1] - fat.tables[0]] for at in fat.tables]
    assert both[0] == both[1]
    free, following = struct.unpack_from("<II", data, 512 + 488)
    used = 3 + -(-length // 512)
    assert (free, following) == (fat.clusters - used, 2 + used)


def test_no_time_comes_from_a_clock_and_the_copy_of_the_first_sectors_is_one() -> None:
    data, size = esp(b"x", 7)
    fat = Fat(data, size)
    times = {entry[3] for entry in fat.entries(fat.root).values()}
    date = struct.pack("<H", (2024 - 1980) << 9 | 1 << 5 | 1)
    assert times == {b"\0" + b"\0\0" + date + date + b"\0\0" + date}
    assert data[:1024] == data[6 * 512 : 8 * 512]
    assert (data, size) == esp(b"x", 7)
