"""An archive for the kernel's first file system, in one form only: cpio, "newc", not compressed.

The kernel unpacks it into memory. Compressing it would put a compressor's version into the disk's digest, and cost
time at each boot. Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from stelae.build.disk.packages import FILE_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file, folder, link or device: ``mode`` has its kind and its permissions; ``data`` is a file's content or
    a symbolic link's target; ``device`` is major and minor."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(mode: int = 0o755) -> Entry:
    """Return a folder."""
    return Entry(mode=stat.S_IFDIR | mode)


def file(data: bytes, mode: int = 0o644) -> Entry:
    """Return a file."""
    return Entry(mode=stat.S_IFREG | mode, data=data)


def link(target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(mode=stat.S_IFLNK | 0o777, data=target.encode())


def archive(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive of *entries*, by path without a leading slash, sorted; the folders above each are put in."""
    whole = dict(entries)
    for path in entries:
        parts = path.split("/")
        for count in range(1, len(parts)):
            whole.setdefault("/".join(parts[:count]), folder())
    pieces = [_record(number, path, whole[path]) for number, path in enumerate(sorted(whole), start=1)]
    pieces.append(_record(0, "TRAILER!!!", Entry(mode=0)))
    return _padded(b"".join(pieces), 512)


def _record(number: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    fields = (
        number, entry.mode, 0, 0, 2 if stat.S_ISDIR(entry.mode) else 1, FILE_TIME if number else 0, len(entry.data),
        0, 0, *entry.device, len(name), 0,
    )  # fmt: skip
    head = b"070701" + b"".join(b"%08x" % value for value in fields)
    return _padded(head + name, 4) + _padded(entry.data, 4)


def _padded(data: bytes, size: int) -> bytes:
    return data + b"\0" * (-len(data) % size)
