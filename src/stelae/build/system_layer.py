"""What every image needs and a base may lack: mount points, files that are mounted over, the app's user.

Instances have a read-only root, so each place that something is mounted on must be there in the image. This
layer is a part of the builder's ``format``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stelae.domain.errors import InvalidInput
from stelae.images import content
from stelae.images.shown import Look
from stelae.images.tree import Kind, Node, Tree, directory, file, show

UID = 10001
"""The number of the user, and of its group, that is made when the base does not have it."""

_FOLDERS = {b"proc": 0o555, b"sys": 0o555, b"dev": 0o755, b"run": 0o755, b"tmp": 0o1777}
_FILES = (b"etc/resolv.conf", b"etc/hosts", b"etc/hostname")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_MOST_LINKS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The layer, the user's numbers, and the working directory without symbolic links (no leading slash)."""

    tree: Tree
    uid: int
    gid: int
    workdir: bytes


def system(base: Look, user: str, workdir: str, mounts: Sequence[str]) -> System:
    """Return the system layer over *base*, which gives files for hard links; *mounts* are paths that file
    systems will be mounted on.

    Raises InvalidInput for a user name or a path that cannot be, or a path that leads to a file of the base.
    """
    if not _USER.fullmatch(user):
        raise InvalidInput(f"not a user name: {user!r}", where="image.user")
    tree = Tree()
    for path, mode in _FOLDERS.items():
        tree.put(path, directory(mode))
    for path in _FILES:
        reach(tree, base, b"etc")
        tree.put(path, file(b""))
    for name in mounts:
        reach(tree, base, real_path(base, name))
    place = real_path(base, workdir)
    reach(tree, base, place)
    uid, gid = _user(tree, base, user, workdir)
    return System(tree=tree, uid=uid, gid=gid, workdir=place)


def above(tree: Tree, path: bytes) -> list[tuple[bytes, Node]]:
    """Return *path* and the folders above it, top first, with their nodes in *tree*."""
    parts = path.split(b"/") if path else []
    return [(place, tree[place]) for place in (b"/".join(parts[: n + 1]) for n in range(len(parts)))]


def reach(tree: Tree, base: Look, path: bytes) -> None:
    """Put *path* and the folders above it into *tree*, as they are in *base* where they are there; raises
    InvalidInput where it has something else than a folder."""
    parts = path.split(b"/") if path else []
    for n in range(len(parts)):
        place = b"/".join(parts[: n + 1])
        if place in tree:
            continue
        known = base.get(place)
        if known is not None and known.kind is not Kind.DIRECTORY:
            raise InvalidInput("it has to be a folder, and is a file in the base", where="/" + show(place))
        tree.add(place, directory() if known is None else directory(known.mode, uid=known.uid, gid=known.gid))


def real_path(base: Look, path: str) -> bytes:
    """Return the absolute *path* as *base* leads to it, without symbolic links and without the leading slash."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidInput(f"not an absolute path: {path!r}")
    waiting = [part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part]
    done: list[bytes] = []
    links = 0
    while waiting:
        part = waiting.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            done = done[:-1]
            continue
        node = base.get(b"/".join([*done, part]))
        if node is None or node.kind is not Kind.SYMLINK:
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise InvalidInput("too many symbolic links in the base", where=path)
        if node.target.startswith(b"/"):
            done = []
        waiting = node.target.split(b"/") + waiting
    return b"/".join(done)


def _user(tree: Tree, base: Look, user: str, home: str) -> tuple[int, int]:
    passwd, group = _text(base, b"etc/passwd"), _text(base, b"etc/group")
    passwd = passwd or b"root:x:0:0:root:/root:/usr/sbin/nologin\n"
    group = group or b"root:x:0:\n"
    numbers = _numbers(passwd, user.encode())
    if numbers is None:
        numbers = (UID, UID)
        if ":" in home or "\n" in home:
            raise InvalidInput("a working directory cannot hold a colon or a line break", where="image.workdir")
        passwd += f"{user}:x:{UID}:{UID}::{home}:/usr/sbin/nologin\n".encode()
        group += f"{user}:x:{UID}:\n".encode()
    for path, text in ((b"etc/passwd", passwd), (b"etc/group", group)):
        if text != _text(base, path):
            tree.put(path, file(text))
    return numbers


def _numbers(passwd: bytes, user: bytes) -> tuple[int, int] | None:
    for line in passwd.splitlines():
        fields = line.split(b":")
        if fields[0] == user and len(fields) >= 4 and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
    return None


def _text(base: Look, path: bytes) -> bytes:
    node = base.get(path)
    if node is None or node.kind is not Kind.FILE:
        return b""
    text = content.read(node.content)
    return text if text.endswith(b"\n") or not text else text + b"\n"
