"""What the commands of a sandbox changed: the upper folder of its overlay, as a layer, and how large it is.

Owners on the disk are shifted by ``FIRST_USER``.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.images.content import Slice
from stelae.images.tree import WHITEOUT, Kind, Node, Tree, allowed_xattr, show, symlink

FIRST_USER = 0x7000_0000
"""What user and group 0 of a sandbox are on the host; far from the ranges of people, services and containers."""

_BLOCK = 512
_CAPABILITY = b"security.capability"
_VERSION_2, _VERSION_3, _VERSION_MASK = 0x0200_0000, 0x0300_0000, 0xFF00_0000


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk of all files together, and the length of the longest one."""

    total: int
    longest: int


def usage(folder: Path) -> Usage:
    """Return what the files below *folder* take, while they may change; a file of several names counts once."""
    total, longest, linked = 0, 0, set()
    waiting = [str(folder)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue  # it went away meanwhile
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.append(entry.path)
            elif found.st_nlink > 1 and found.st_ino in linked:
                continue
            else:
                linked.add(found.st_ino)
                longest = max(longest, found.st_size if stat.S_ISREG(found.st_mode) else 0)
            total += found.st_blocks * _BLOCK
    return Usage(total, longest)


def changes(folder: Path) -> Tree:
    """Return what is in the upper *folder* as a layer, whose contents stay where they are.

    Raises Failed for a device, a socket or a FIFO, which no image can hold.
    """
    tree = Tree()
    inodes: dict[int, bytes] = {}
    for top, folders, files in os.walk(os.fsencode(folder)):
        for name in sorted([*folders, *files]):
            path = os.path.join(top, name)  # noqa: PTH118 - bytes: a name need not be text
            inside = os.path.relpath(path, os.fsencode(folder))
            _add(tree, inside, path, inodes)
        folders.sort()
    return tree


def _add(tree: Tree, inside: bytes, path: bytes, inodes: dict[int, bytes]) -> None:
    found = os.lstat(path)
    mode, uid, gid = stat.S_IMODE(found.st_mode), found.st_uid - FIRST_USER, found.st_gid - FIRST_USER
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        tree.add(inside, WHITEOUT)
    elif stat.S_ISLNK(found.st_mode):
        tree.add(inside, symlink(os.readlink(path)))  # noqa: PTH115 - bytes
    elif stat.S_ISDIR(found.st_mode):
        opaque = _xattrs(path).get(b"trusted.overlay.opaque") == b"y"
        node = Node(kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid, opaque=opaque, xattrs=_allowed(path))
        tree.add(inside, node)
    elif not stat.S_ISREG(found.st_mode):
        raise Failed("it left a device, a socket or a FIFO, which no image can hold", where="/" + show(inside))
    elif found.st_nlink > 1 and found.st_ino in inodes:
        tree.add(inside, Node(kind=Kind.LINK, target=inodes[found.st_ino]))
    else:
        inodes[found.st_ino] = inside
        content = Slice(Path(os.fsdecode(path)), 0, found.st_size)
        node = Node(kind=Kind.FILE, mode=mode, uid=uid, gid=gid, content=content, xattrs=_allowed(path))
        tree.add(inside, node)


def _allowed(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(sorted((name, value) for name, value in _xattrs(path).items() if allowed_xattr(name)))


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    found = {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}
    if _CAPABILITY in found:
        found[_CAPABILITY] = _of_any_root(found[_CAPABILITY])
    return found


def _of_any_root(data: bytes) -> bytes:
    """Return a file's capabilities without the user namespace that they were given in, as an image holds them.

    Source: linux/capability.h, ``vfs_ns_cap_data`` (version 3) and ``vfs_cap_data`` (version 2).
    """
    if len(data) != struct.calcsize("<6I"):
        return data
    magic, *sets, root = struct.unpack("<6I", data)
    if magic & _VERSION_MASK != _VERSION_3 or root != FIRST_USER:
        return data
    return struct.pack("<5I", magic & ~_VERSION_MASK | _VERSION_2, *sets)
