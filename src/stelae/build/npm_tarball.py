"""The tarball of an npm package, unpacked as npm does it. Every byte of it is taken as written by an enemy.

Regular files and folders below its one top folder, and nothing else: the entry that is something else is named. A
``.gitignore`` becomes an ``.npmignore``, as in npm. Owners and times in the archive mean nothing.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from stelae.domain.errors import InvalidInput
from stelae.domain.units import GIB
from stelae.images.content import CHUNK
from stelae.images.layer_tar import read_layer
from stelae.images.tree import Kind, Limits, Node, Tree, directory, file, show

MOST_BYTES = 2 * GIB
"""How large a package may be when it is unpacked, and its tar."""

MOST_FILES = 100_000

_SYMLINK, _LINK = "a symbolic link", "a hard link"
_WORDS = {Kind.SYMLINK: _SYMLINK, Kind.LINK: _LINK, Kind.WHITEOUT: "a name that means something in an image"}


def unpack(tarball: Path, tar: Path, *, size: int = MOST_BYTES, entries: int = MOST_FILES) -> Tree:
    """Return the files of the package *tarball*, without its top folder; *tar* is a new file that must stay as long
    as the contents are read.

    Modes are 0755 where anybody may execute, else 0644, and folders 0755. Raises InvalidInput that names the entry.
    """
    _inflate(tarball, tar, size)
    found = read_layer(tar, limits=Limits(entries=entries, size=size))
    top = ""
    tree = Tree(found.limits)
    for path, node in found.items():
        if node.opaque or node.kind in _WORDS:
            raise InvalidInput(
                f"{_WORDS.get(node.kind, _WORDS[Kind.WHITEOUT])} cannot be in an npm package", where=show(path)
            )
        folder, slash, rest = path.partition(b"/")
        top = top or show(folder)
        if show(folder) != top or not (slash or node.kind is Kind.DIRECTORY):
            raise InvalidInput(f"not below {top}, the package's only folder", where=show(path))
        if rest:
            _put(tree, found, folder, rest, node)
    return tree


def _put(tree: Tree, found: Tree, top: bytes, path: bytes, node: Node) -> None:
    if node.kind is Kind.DIRECTORY:
        tree.put(path, directory())
        return
    parent, slash, name = path.rpartition(b"/")
    if name == b".gitignore":
        path = parent + slash + b".npmignore"
        if top + b"/" + path in found:
            return
    tree.put(path, file(node.content, 0o755 if node.mode & 0o111 else 0o644))


def _inflate(tarball: Path, tar: Path, limit: int) -> None:
    size = 0
    try:
        with gzip.open(tarball) as source, tar.open("xb") as out:
            while data := source.read(CHUNK):
                size += len(data)
                if size > limit:
                    raise InvalidInput(f"unpacked it is larger than {limit} bytes")
                out.write(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInput(f"not a gzip file: {error}") from error
