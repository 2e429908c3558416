"""Lay a tree out as real files, for tools that read folders.

Every step is relative to an open folder and follows no symbolic link, so no tree can reach outside.
Whiteouts and opaque folders take the form that overlayfs reads: a character device 0:0, and the extended
attribute ``trusted.overlay.opaque`` (Linux, Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import os
import stat

from stelae.images.content import chunks
from stelae.images.tree import Kind, Node, Tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def materialise(tree: Tree, root: int) -> None:
    """Make the files of *tree* below the empty folder that is open as *root*; needs root's rights."""
    with _Folders(root) as folders:
        links, directories = [], []
        for path, node in tree.items():
            at, name = folders.parent(path)
            if node.kind is Kind.LINK:
                links.append((path, node))
            elif node.kind is Kind.DIRECTORY:
                os.mkdir(name, 0o700, dir_fd=at)
                directories.append((path, node))
            else:
                _make(at, name, node)
        for path, node in links:
            at, name = folders.parent(path)
            # Every parent is a folder that was made above, so the path of the file can be walked.
            os.link(node.target, name, src_dir_fd=root, dst_dir_fd=at, follow_symlinks=False)
        # Last, and from below: making a file changes the time of its folder.
        for path, node in reversed(directories):
            at, name = folders.parent(path)
            _finish_folder(at, name, node)


def _make(at: int, name: bytes, node: Node) -> None:
    if node.kind is Kind.WHITEOUT:
        os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=at)
    elif node.kind is Kind.SYMLINK:
        os.symlink(node.target, name, dir_fd=at)
        os.chown(name, node.uid, node.gid, dir_fd=at, follow_symlinks=False)
        os.utime(name, (node.mtime, node.mtime), dir_fd=at, follow_symlinks=False)
    else:
        file = os.open(name, _CREATE, 0o600, dir_fd=at)
        try:
            for data in chunks(node.content):
                _write(file, data)
            _finish(file, node)
        finally:
            os.close(file)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _finish(file: int, node: Node) -> None:
    os.fchown(file, node.uid, node.gid)
    os.fchmod(file, node.mode)
    for name, value in node.xattrs:
        os.setxattr(file, name, value)
    os.utime(file, (node.mtime, node.mtime))


def _finish_folder(at: int, name: bytes, node: Node) -> None:
    folder = os.open(name, _FOLDER, dir_fd=at)
    try:
        if node.opaque:
            os.setxattr(folder, "trusted.overlay.opaque", b"y")
        _finish(folder, node)
    finally:
        os.close(folder)


class _Folders:
    """Opens the parent of a path step by step; the last one stays open for the next path."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path = b""
        self._open = -1

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """Return the open parent folder of *path* (valid until the next call) and its last name."""
        folder, _, name = path.rpartition(b"/")
        if not folder:
            return self._root, name
        if folder != self._path or self._open < 0:
            self._close()
            for part in folder.split(b"/"):
                below = os.open(part, _FOLDER, dir_fd=self._open if self._open >= 0 else self._root)
                self._close()
                self._open = below
            self._path = folder
        return self._open, name
