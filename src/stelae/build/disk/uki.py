"""A unified kernel image: one program for UEFI that is systemd's stub, with a kernel and what it needs as sections.

Source: the Unified Kernel Image specification (uapi-group.org), and Microsoft's PE format. The stub's own sections
stay as they are; ours come after them, ``.linux`` last, as ``ukify`` puts them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from stelae.domain.errors import Failed

_DATA = 0x40000040  # initialised data, readable
_SECTION = struct.Struct("<8sIIIIIIHHI")
_PE32_PLUS = 0x20B
_PAGE = 4096  # so that firmware can give each section rights of its own


def unified(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    """Return *stub* with *sections* appended, in their order; raises Failed when *stub* is no such program, or its
    header has no room for them."""
    try:
        return _unified(stub, sections)
    except struct.error as error:
        raise Failed("the stub of the disk's packages is not a program for UEFI") from error


def _unified(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    (pe,) = struct.unpack_from("<I", stub, 0x3C)
    (count,), (optional_size,) = struct.unpack_from("<H", stub, pe + 6), struct.unpack_from("<H", stub, pe + 20)
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", stub, optional)
    if stub[:2] != b"MZ" or stub[pe : pe + 4] != b"PE\0\0" or magic != _PE32_PLUS:
        raise Failed("the stub of the disk's packages is not a program for UEFI")
    (in_file,) = struct.unpack_from("<I", stub, optional + 36)
    table, (header,) = optional + optional_size, struct.unpack_from("<I", stub, optional + 60)
    if table + (count + len(sections)) * _SECTION.size > header:
        raise Failed("the stub of the disk's packages has no room for more sections")
    old = [_SECTION.unpack_from(stub, table + number * _SECTION.size) for number in range(count)]
    address = _up(max(section[2] + max(section[1], section[3]) for section in old), _PAGE)
    result = bytearray(stub).ljust(_up(len(stub), in_file), b"\0")
    added = 0
    for number, (name, data) in enumerate(sections.items(), start=count):
        size = _up(len(data), in_file)
        record = (name.encode(), len(data), address, size, len(result), 0, 0, 0, 0, _DATA)
        _SECTION.pack_into(result, table + number * _SECTION.size, *record)
        result += data.ljust(size, b"\0")
        address = _up(address + len(data), _PAGE)
        added += size
    struct.pack_into("<H", result, pe + 6, count + len(sections))
    (initialised,) = struct.unpack_from("<I", result, optional + 8)
    struct.pack_into("<I", result, optional + 8, initialised + added)
    struct.pack_into("<I", result, optional + 56, address)
    struct.pack_into("<I", result, optional + 64, 0)  # no check sum: UEFI asks for none
    return bytes(result)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
