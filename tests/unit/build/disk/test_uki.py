"""The unified kernel image: sections after the stub's own, and a stub that is none."""

from __future__ import annotations

import struct

import pytest

from stelae.build.disk.uki import unified
from stelae.domain.errors import Failed


def stub(*, header: int = 0x400, magic: int = 0x20B) -> bytes:
    """Return a program for UEFI with one section, as small as can be."""
    data = bytearray(header + 512)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, 0x80)
    data[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<HH", data, 0x84, 0x8664, 1)
    struct.pack_into("<H", data, 0x94, 240)
    struct.pack_into("<H", data, 0x98, magic)
    struct.pack_into("<II", data, 0x98 + 32, 512, 512)
    struct.pack_into("<III", data, 0x98 + 56, 0x3000, header, 0xABCD)
    struct.pack_into("<8sIIIIIIHHI", data, 0x98 + 240, b".text", 300, 0x2000, 512, header, 0, 0, 0, 0, 0x60000020)
    data[header:] = b"T" * 512
    return bytes(data)


def sections(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Return address and content of each section."""
    (count,) = struct.unpack_from("<H", data, 0x86)
    found = {}
    for number in range(count):
        name, size, address, raw, place, *_ = struct.unpack_from("<8sIIIIIIHHI", data, 0x98 + 240 + 40 * number)
        assert (place % 512, raw % 512) == (0, 0)
        assert raw >= size
        found[name.rstrip(b"\0").decode()] = (address, data[place : place + size])
    return found


def test_sections_come_after_the_stubs_own_in_their_order() -> None:
    given = {".osrel": b"ID=x\n", ".initrd": b"i" * 5000, ".linux": b"k" * 700}
    made = unified(stub(), given)
    found = sections(made)
    assert list(found) == [".text", *given]
    assert {name: data for name, (_, data) in found.items() if name in given} == given
    addresses = [address for address, _ in found.values()]
    assert addresses == [0x2000, 0x3000, 0x4000, 0x6000]
    (whole,) = struct.unpack_from("<I", made, 0x98 + 56)
    assert whole == 0x7000
    assert struct.unpack_from("<I", made, 0x98 + 64) == (0,)
    assert len(made) % 512 == 0
    assert unified(stub(), given) == made


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF" + b"\0" * 2000, stub(magic=0x10B), stub()[:0x90]])
def test_what_is_no_program_for_uefi_is_refused(data: bytes) -> None:
    with pytest.raises(Failed, match="is not a program for UEFI"):
        unified(data, {".linux": b"k"})


def test_a_header_without_room_is_refused_not_overwritten() -> None:
    with pytest.raises(Failed, match="no room"):
        unified(stub(header=0x200), {f".s{number}": b"x" for number in range(4)})
