"""Layers as tar files: one tree has exactly one form, and a form from elsewhere is read as hostile.

The form that is written (part of the builder's ``format``): POSIX ustar; paths sorted as bytes, every parent
present, no ``./``; whiteouts first in their folder; numeric owners, no names; one integer time for all; a
PAX header only where ustar has no room (long names, owners beyond 2**21, sizes from 8 GiB, extended
attributes). Sources: POSIX.1-2017 pax, OCI image specification layer.md.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stelae.domain.digest import Digest
from stelae.images.content import chunks
from stelae.images.tar_reader import OPAQUE, XATTR, read_layer
from stelae.images.tree import WHITEOUT, WHITEOUT_PREFIX, Kind, Node, Tree

__all__ = ["read_layer", "write_layer"]

BLOCK = 512

_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_TYPES = {Kind.FILE: b"0", Kind.WHITEOUT: b"0", Kind.LINK: b"1", Kind.SYMLINK: b"2", Kind.DIRECTORY: b"5"}
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777
_BUFFER = 1 << 20


def write_layer(tree: Tree, out: Path | BinaryIO, *, mtime: int) -> tuple[Digest, int]:
    """Write *tree* as a tar to *out* and return its digest and its size in bytes.

    *mtime* (seconds since 1970) is the time of every entry. The same tree gives the same bytes on every
    machine. Raises Failed when a content became shorter than its node says.
    """
    if isinstance(out, Path):
        with out.open("wb") as file:
            return write_layer(tree, file, mtime=mtime)
    hasher = hashlib.sha256()
    size = 0
    for data in _buffered(_blocks(tree, mtime)):
        hasher.update(data)
        out.write(data)
        size += len(data)
    return Digest("sha256:" + hasher.hexdigest()), size


def _buffered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length >= _BUFFER:
            yield b"".join(waiting)
            waiting, length = [], 0
    yield b"".join(waiting)


def _blocks(tree: Tree, mtime: int) -> Iterator[bytes]:
    # A NUL cannot be in a name: it sorts what is about a folder (opaque), then its whiteouts, before its files.
    entries: list[tuple[bytes, bytes, Node]] = []
    for path, node in tree.items():
        folder, slash, name = path.rpartition(b"/")
        if node.kind is Kind.WHITEOUT:
            entries.append((folder + slash + b"\0\1" + name, folder + slash + WHITEOUT_PREFIX + name, node))
        else:
            entries.append((path, path, node))
        if node.opaque:
            entries.append((path + b"/\0\0", path + b"/" + OPAQUE, WHITEOUT))
    # The first path in the order of bytes is the file, later ones are links to it.
    owner: dict[bytes, bytes] = {}
    for _, name, node in sorted(entries, key=lambda entry: entry[0]):
        file, first = node, name
        if node.kind in (Kind.FILE, Kind.LINK):
            source = node.target if node.kind is Kind.LINK else name
            first = owner.setdefault(source, name)
            file = tree.resolve(name)
        if first != name:
            yield from _entry(name, file, mtime, b"1", first)
            continue
        yield from _entry(name, file, mtime, _TYPES[file.kind], file.target)
        if file.kind is Kind.FILE:
            yield from chunks(file.content)
            yield b"\0" * (-file.size % BLOCK)
    yield b"\0" * (2 * BLOCK)


def _entry(path: bytes, node: Node, mtime: int, kind: bytes, target: bytes) -> Iterator[bytes]:
    name = path + b"/" if kind == b"5" else path
    size = node.size if kind == b"0" else 0
    records: dict[bytes, bytes] = {}
    prefix, base = _split(name)
    if not base:
        records[b"path"] = name
        prefix, base = b"", name[:100]
    if len(target) > 100:
        records[b"linkpath"] = target
    for key, number, limit in (
        (b"uid", node.uid, _OCTAL_7),
        (b"gid", node.gid, _OCTAL_7),
        (b"size", size, _OCTAL_11),
    ):
        if number > limit:
            records[key] = b"%d" % number
    if kind != b"1":
        records.update({XATTR + key: value for key, value in node.xattrs})
    if records:
        body = b"".join(_record(key, records[key]) for key in sorted(records))
        yield _header(b"", b"././@PaxHeader", 0o644, 0, 0, len(body), 0, b"x", b"")
        yield body + b"\0" * (-len(body) % BLOCK)
    yield _header(prefix, base, node.mode, node.uid, node.gid, size, mtime, kind, target[:100])


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    # The length counts its own digits.
    if len(str(length)) > len(str(len(body))):
        length += 1
    return b"%d" % length + body


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Return the prefix and the name field of ustar, or an empty name when they have no room."""
    if len(name) <= 100:
        return b"", name
    at = name.find(b"/", len(name) - 101)
    if 0 < at <= 155 and at < len(name) - 1:
        return name[:at], name[at + 1 :]
    return b"", b""


def _header(
    prefix: bytes, name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, target: bytes
) -> bytes:
    block = _HEADER.pack(
        name, b"%07o" % mode, b"%07o" % min(uid, _OCTAL_7), b"%07o" % min(gid, _OCTAL_7),
        b"%011o" % min(size, _OCTAL_11), b"%011o" % mtime, b" " * 8, kind, target, b"ustar\x0000", b"", b"",
        b"", b"", prefix,
    )  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
