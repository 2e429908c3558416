"""Read a layer's tar into a tree. Nothing is extracted, and every byte is taken as written by an enemy.

Only single header blocks are parsed by ``tarfile``; what spans blocks (PAX and GNU long names) is read here,
with limits. Refused with InvalidInput that names the entry: paths that leave the tree, an entry that is there
twice, hard links to what is not a file before them, devices and FIFOs, sparse files, sizes beyond the file.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stelae.domain.errors import InvalidInput
from stelae.images.content import Slice
from stelae.images.tree import (
    DEFAULT_LIMITS,
    MAX_XATTRS,
    WHITEOUT,
    WHITEOUT_PREFIX,
    Kind,
    Limits,
    Node,
    Tree,
    allowed_xattr,
    show,
)

OPAQUE = b".wh..wh..opq"
XATTR = b"SCHILY.xattr."

_BLOCK = 512
_MAX_EXTENSION = 4 * MAX_XATTRS
_ZERO = bytes(_BLOCK)
_KINDS = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.LINK, b"2": Kind.SYMLINK, b"5": Kind.DIRECTORY,
}  # fmt: skip
_SPECIAL = {b"3": "a character device", b"4": "a block device", b"6": "a FIFO"}
_SHAPING = {b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"}


@dataclass(frozen=True, slots=True)
class _Entry:
    path: bytes
    target: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    offset: int
    xattrs: tuple[tuple[bytes, bytes], ...]


def read_layer(path: Path, *, limits: Limits = DEFAULT_LIMITS, skip_devices: bool = False) -> Tree:
    """Return the tree in the uncompressed tar at *path*; contents stay in the file and are read when needed.

    With *skip_devices* device nodes and FIFOs are left out instead of refused. Raises InvalidInput.
    """
    tree = Tree(limits)
    with path.open("rb") as file:
        for entry in _entries(file, path.stat().st_size):
            if not (skip_devices and entry.type in _SPECIAL):
                _add(tree, entry, path)
    return tree


def leaves(path: Path) -> Iterator[tuple[bytes, Slice | None]]:
    """Yield each path in the uncompressed tar at *path* that is not a folder, with its content when it is a file.

    Quicker than ``read_layer``, because no tree is made; markers of whiteouts come as the files that they are.
    Raises InvalidInput for what is not a tar.
    """
    with path.open("rb") as file:
        for entry in _entries(file, path.stat().st_size):
            kind = _KINDS.get(entry.type)
            if kind is not Kind.DIRECTORY:
                content = Slice(path, entry.offset, entry.size) if kind is Kind.FILE else None
                yield _plain(entry.path), content


def raw_entries(path: Path) -> Iterator[tuple[bytes, Node]]:
    """Yield each file, folder and link of the uncompressed tar at *path*, an archive that is no layer: with its path
    as it is written there, which nobody has checked.

    Contents stay in the file. Raises InvalidInput for what is not a tar, and for any other kind of entry.
    """
    with path.open("rb") as file:
        for entry in _entries(file, path.stat().st_size):
            kind = _KINDS.get(entry.type)
            if kind is None:
                what = _SPECIAL.get(entry.type, f"an entry of type {show(entry.type)}")
                raise InvalidInput(f"{what}, which is neither a file nor a folder", where=show(entry.path))
            content = Slice(path, entry.offset, entry.size) if kind is Kind.FILE else b""
            yield entry.path, Node(kind=kind, mode=entry.mode, target=entry.target, content=content)


def _add(tree: Tree, entry: _Entry, source: Path) -> None:
    where = show(entry.path)
    path = _plain(entry.path)
    if entry.type in _SPECIAL:
        raise InvalidInput(f"{_SPECIAL[entry.type]} cannot be in an image", where=where)
    kind = _KINDS.get(entry.type)
    if kind is None:
        raise InvalidInput(f"an entry of type {show(entry.type)}, which a layer cannot hold", where=where)
    if not path:
        if kind is not Kind.DIRECTORY:
            raise InvalidInput("not a path inside an image", where=where or "(empty)")
        return
    if kind is not Kind.DIRECTORY and entry.path.endswith(b"/"):
        raise InvalidInput("the name of a file cannot end in /", where=where)
    folder, slash, name = path.rpartition(b"/")
    if name.startswith(WHITEOUT_PREFIX):
        if kind is not Kind.FILE:
            raise InvalidInput("a whiteout must be a regular file", where=where)
        _white_out(tree, folder, folder + slash + name.removeprefix(WHITEOUT_PREFIX), name)
        return
    node = Node(
        kind=kind,
        mode=0o777 if kind is Kind.SYMLINK else entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        target=_plain(entry.target) if kind is Kind.LINK else entry.target if kind is Kind.SYMLINK else b"",
        content=Slice(source, entry.offset, entry.size) if kind is Kind.FILE else b"",
        xattrs=entry.xattrs if kind in (Kind.FILE, Kind.DIRECTORY) else (),
        opaque=kind is Kind.DIRECTORY and path in tree and (tree[path].opaque or tree[path].kind is Kind.WHITEOUT),
        mtime=entry.mtime,
    )
    if path in tree and (tree[path].kind is Kind.WHITEOUT or (tree[path].opaque and tree.is_implied(path))):
        # A whiteout is about the layers below: what this layer puts there stays.
        tree.put(path, node)
    else:
        tree.add(path, node)


def _white_out(tree: Tree, folder: bytes, path: bytes, name: bytes) -> None:
    if name == OPAQUE:
        if not folder:
            raise InvalidInput("the root of a layer cannot be opaque", where=show(name))
        tree.make_opaque(folder)
    elif path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
        raise InvalidInput("a whiteout of a whiteout", where=show(path))
    elif path not in tree:
        tree.add(path, WHITEOUT)
    elif tree[path].kind is Kind.DIRECTORY:
        tree.make_opaque(path)
    elif tree[path].kind is Kind.WHITEOUT:
        raise InvalidInput("the path is there twice", where=show(path))


def _plain(path: bytes) -> bytes:
    """Return *path* without the ``./`` and the last ``/`` that other writers add; ``b""`` is the root."""
    while path.startswith(b"./"):
        path = path[2:]
    path = path[:-1] if path.endswith(b"/") and path != b"/" else path
    return b"" if path == b"." else path


def _entries(file: BinaryIO, end: int) -> Iterator[_Entry]:
    records: dict[bytes, bytes] = {}
    while header := _header(file):
        kind, size = header.type, header.size
        where = show(header.name.encode("utf-8", "surrogateescape"))
        if min(size, header.uid, header.gid, header.mode) < 0:
            raise InvalidInput("a negative number in its header", where=where)
        if kind in (b"x", b"g", b"L", b"K"):
            data = _extension(file, size, where)
            if kind == b"x":
                records.update(_pax(data, where))
            elif kind == b"g" and _SHAPING & _pax(data, where).keys():
                raise InvalidInput("a global header that names files", where=where)
            elif kind in (b"L", b"K"):
                records[b"path" if kind == b"L" else b"linkpath"] = data.partition(b"\0")[0]
            continue
        entry = _entry(header, records, file.tell())
        records = {}
        if entry.offset + entry.size > end:
            raise InvalidInput("the tar ends before the file does", where=show(entry.path))
        yield entry
        file.seek(entry.offset + entry.size + -entry.size % _BLOCK)
    if records:
        raise InvalidInput("the tar ends after the first part of an entry")


def _header(file: BinaryIO) -> tarfile.TarInfo | None:
    block = file.read(_BLOCK)
    if not block or (block == _ZERO and file.read(_BLOCK) in (_ZERO, b"")):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InvalidInput(f"not a tar: {error} at byte {file.tell() - len(block)}") from error


def _entry(header: tarfile.TarInfo, records: dict[bytes, bytes], offset: int) -> _Entry:
    path = records.get(b"path", header.name.encode("utf-8", "surrogateescape"))
    where = show(path)
    if header.type == b"S" or any(key.startswith(b"GNU.sparse") for key in records):
        raise InvalidInput("sparse files cannot be in a layer", where=where)
    kind = _KINDS.get(header.type)
    # Directories are told by type, but frombuf takes their last slash away.
    size = _number(records, b"size", header.size, where) if kind is Kind.FILE else 0
    xattrs = {k.removeprefix(XATTR): v for k, v in records.items() if k.startswith(XATTR)}
    return _Entry(
        path=path,
        target=records.get(b"linkpath", header.linkname.encode("utf-8", "surrogateescape")),
        type=header.type,
        mode=header.mode & 0o7777,
        uid=_number(records, b"uid", header.uid, where),
        gid=_number(records, b"gid", header.gid, where),
        mtime=max(0, int(header.mtime)),
        size=size,
        offset=offset,
        xattrs=tuple(sorted((k, v) for k, v in xattrs.items() if allowed_xattr(k))),
    )


def _number(records: dict[bytes, bytes], key: bytes, default: int, where: str) -> int:
    text = records.get(key)
    if text is None:
        return default
    if not text.isdigit() or len(text) > 19:
        raise InvalidInput(f"{key.decode()} is not a number", where=where)
    return int(text)


def _extension(file: BinaryIO, size: int, where: str) -> bytes:
    if size > _MAX_EXTENSION:
        raise InvalidInput(f"a header of {size} bytes", where=where)
    data = file.read(size)
    file.seek(-size % _BLOCK, 1)
    if len(data) != size:
        raise InvalidInput("the tar ends inside a header", where=where)
    return data


def _pax(data: bytes, where: str) -> dict[bytes, bytes]:
    """Return the records of a PAX header: each ``LENGTH KEY=VALUE\\n``, where LENGTH counts all of it."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 12].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        record = data[at + len(digits) + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not record.endswith(b"\n") or at + length > len(data):
            raise InvalidInput("a broken PAX header", where=where)
        records[key] = value
        at += length
    return records
