"""Which parts of a program file are code that nobody writes to: System V ABI, chapters 4 and 5 (ELF)."""

from __future__ import annotations

import os
import struct

MAGIC = b"\x7fELF"

_LOAD, _DYNAMIC = 1, 2
_EXECUTE, _WRITE = 1, 2
_TEXTREL, _FLAGS, _DF_TEXTREL = 22, 30, 4
_MOST = 1 << 16  # bytes of headers


def text_of(descriptor: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the open file that are loaded as code and not for writing; none when it is no ELF file, or
    when it says itself that its code is written to while it is loaded (text relocations). Raises OSError."""
    head = os.pread(descriptor, 64, 0)
    if len(head) < 52 or head[:4] != MAGIC:
        return ()
    try:
        segments = _segments(descriptor, head)
        wide = head[4] == 2
        for kind, _, offset, size in segments:
            dynamic = os.pread(descriptor, min(size, _MOST), offset) if kind == _DYNAMIC else b""
            if _relocates_text(dynamic, head[5], wide=wide):
                return ()
    except (struct.error, OverflowError):  # a place that no file has
        return ()
    return tuple(
        (offset, offset + size)
        for kind, flags, offset, size in segments
        if kind == _LOAD and flags & _EXECUTE and not flags & _WRITE
    )


def _segments(descriptor: int, head: bytes) -> list[tuple[int, int, int, int]]:
    """Return kind, flags, offset and size in the file of each segment."""
    order = "<" if head[5] == 1 else ">"
    wide = head[4] == 2
    (at,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    each, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    table = os.pread(descriptor, min(each * count, _MOST), at)
    found = []
    for n in range(count):
        if wide:
            kind, flags, offset, _, _, size = struct.unpack_from(order + "IIQQQQ", table, n * each)
        else:
            kind, offset, _, _, size, _, flags = struct.unpack_from(order + "7I", table, n * each)
        found.append((kind, flags, offset, size))
    return found


def _relocates_text(dynamic: bytes, encoding: int, *, wide: bool) -> bool:
    form = struct.Struct(("<" if encoding == 1 else ">") + ("QQ" if wide else "II"))
    whole = dynamic[: len(dynamic) // form.size * form.size]
    return any(tag == _TEXTREL or (tag == _FLAGS and value & _DF_TEXTREL) for tag, value in form.iter_unpack(whole))
