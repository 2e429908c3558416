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
from stelae.images.content import CHUNK, same
from stelae.images.tar_reader import raw_entries
from stelae.images.tree import Kind, Limits, Node, Tree, directory, file, show

MOST_BYTES = 2 * GIB
"""How large a package may be when it is unpacked, and its tar."""

MOST_FILES = 100_000

_LINKS = {Kind.SYMLINK: "a symbolic link", Kind.LINK: "a hard link"}


def unpack(tarball: Path, tar: Path, *, size: int = MOST_BYTES, entries: int = MOST_FILES) -> Tree:
    """Return the files of the package *tarball*, without its top folder; *tar* is a new file that must stay as long
    as the contents are read.

    Modes are 0755 where anybody may execute, else 0644, and folders 0755. Raises InvalidInput that names the entry.
    """
    _inflate(tarball, tar, size)
    tree = Tree(Limits(entries=entries, size=size))
    top = b""
    for written, node in raw_entries(tar):
        folder, *parts = _parts(written)
        top = top or folder
        if folder != top:
            raise InvalidInput(f"not below {show(top)}, the package's one folder", where=show(written))
        if node.kind in _LINKS:
            raise InvalidInput(f"{_LINKS[node.kind]} cannot be in an npm package", where=show(written))
        is_folder = node.kind is Kind.DIRECTORY or (written.endswith(b"/") and not node.size)
        if not parts and not is_folder:
            raise InvalidInput("a file beside the package's one folder", where=show(written))
        if parts:
            _add(tree, b"/".join(parts), node, written, is_folder=is_folder)
    return _with_npmignore(tree)


def _parts(written: bytes) -> list[bytes]:
    """Return the names in a path; some writers put in a needless ``.``."""
    parts = [part for part in written.split(b"/") if part not in (b"", b".")]
    if written.startswith(b"/") or b".." in parts or not parts:
        raise InvalidInput("not a path inside a package", where=show(written) or "(empty)")
    return parts


def _add(tree: Tree, path: bytes, node: Node, written: bytes, *, is_folder: bool) -> None:
    old = tree.get(path)
    if old is not None and not is_folder and old.kind is Kind.FILE:
        # Some tools pack a file twice (agent-base 7.1.4); where both are the same it does not matter which is meant.
        if not same(old.content, node.content):
            raise InvalidInput("the file is there twice, with different content", where=show(written))
        return
    try:
        if not is_folder:
            tree.add(path, file(node.content, 0o755 if node.mode & 0o111 else 0o644))
        elif path not in tree or tree[path].kind is not Kind.DIRECTORY:
            tree.add(path, directory())
    except InvalidInput as error:
        raise InvalidInput(error.message, where=show(written)) from error


def _with_npmignore(tree: Tree) -> Tree:
    for path in [path for path in tree if path.rpartition(b"/")[2] == b".gitignore"]:
        node, other = tree[path], path[: -len(b".gitignore")] + b".npmignore"
        if node.kind is Kind.FILE:
            tree.remove(path)
            if other not in tree:
                tree.add(other, node)
    return tree


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
