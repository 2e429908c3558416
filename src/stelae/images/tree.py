"""A file tree in memory: what a layer holds, or what several layers show together.

Paths are bytes without a leading slash (``usr/bin/env``), because a file name on Linux is bytes. The root
folder itself has no node: it is root:root 0755 in every image. Nothing here touches a disk; the contents
of files are read when they are asked for (``stelae.images.content``).

A tree that stands for a layer may hold whiteouts ("this path is gone") and opaque folders ("nothing below
this path shines through"), as in the OCI image specification, layer.md. Device nodes, FIFOs and sockets
do not exist here: an image has no use for them, ``/dev`` is made by the runtime.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.errors import InvalidInput
from stelae.domain.units import GIB, MIB
from stelae.images.content import Content, same, size_of

MAX_NAME = 255
MAX_PATH = 4095
MAX_XATTRS = 64 * 1024
WHITEOUT_PREFIX = b".wh."


class Kind(StrEnum):
    """What a path is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    LINK = "link"  # a hard link: target is the path of a FILE of the same tree
    WHITEOUT = "whiteout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One path: ``mode`` is the permission bits with setuid, setgid and sticky; ``target`` belongs to SYMLINK
    (any text) and LINK (a path of the tree), ``content`` to FILE, ``opaque`` to DIRECTORY.

    ``xattrs`` are pairs of name and value, sorted. ``mtime`` (seconds) is known for a layer that was read;
    ``write_layer`` does not use it and it takes no part in comparisons.
    """

    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: bytes = b""
    content: Content = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    opaque: bool = False
    mtime: int = field(default=0, compare=False)

    @property
    def size(self) -> int:
        """The length of the content in bytes; 0 for all but files."""
        return size_of(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a tree may get: nodes, bytes of all contents together, and bytes of all paths, targets and extended
    attributes together, which are held in memory."""

    entries: int = 400_000
    size: int = 32 * GIB
    names: int = 64 * MIB


DEFAULT_LIMITS = Limits()


def file(content: Content, mode: int = 0o644, *, uid: int = 0, gid: int = 0) -> Node:
    """Return a node for a regular file."""
    return Node(kind=Kind.FILE, mode=mode, uid=uid, gid=gid, content=content)


def directory(mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> Node:
    """Return a node for a folder."""
    return Node(kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid)


def symlink(target: bytes) -> Node:
    """Return a node for a symbolic link; its mode is always 0777, as Linux shows it."""
    return Node(kind=Kind.SYMLINK, mode=0o777, target=target)


WHITEOUT = Node(kind=Kind.WHITEOUT)
_PARENT = directory()


class Tree(Mapping[bytes, Node]):
    """Paths and their nodes; iteration is sorted by the bytes of the path, so parents come first."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._nodes: dict[bytes, Node] = {}
        self._implied: set[bytes] = set()
        self._links: dict[bytes, set[bytes]] = {}
        self._size = 0
        self._names = 0

    def __getitem__(self, path: bytes) -> Node:
        return self._nodes[path]

    def __contains__(self, path: object) -> bool:
        return path in self._nodes

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(self._nodes))

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def size(self) -> int:
        """The bytes of all contents together; a file with several hard links counts once."""
        return self._size

    def add(self, path: bytes, node: Node) -> None:
        """Put *node* at *path*; missing parents are made as root:root 0755.

        Raises InvalidInput for a path or a node that cannot be, a path that is taken (a parent made by an
        earlier call is not), a parent that is not a folder, a hard link to nothing, and beyond the limits.
        """
        check_path(path)
        _check_node(path, node)
        if path in self._nodes:
            if path not in self._implied or node.kind is not Kind.DIRECTORY:
                raise InvalidInput("the path is there twice", where=show(path))
            self._implied.discard(path)
        else:
            self._need_parent(path)
        if node.kind is Kind.LINK:
            node = self._linked(path, node)
        self._put(path, node)

    def put(self, path: bytes, node: Node) -> None:
        """Like ``add``, whatever was at *path* before; a folder keeps what is in it when *node* is a folder."""
        check_path(path)
        _check_node(path, node)
        old = self._nodes.get(path)
        if old is not None and old.kind is node.kind is Kind.DIRECTORY:
            self._implied.discard(path)
            self._unput(path)
            self._put(path, node)
            return
        if node.kind is Kind.LINK:
            node = self._linked(path, node)
            if path in _lineage(node.target):
                raise InvalidInput("a hard link to what it replaces", where=show(path))
        if old is not None:
            self.remove(path)
        self.add(path, node)

    def remove(self, path: bytes) -> None:
        """Take *path* and all below it away; raises KeyError when it is not there."""
        if path not in self._nodes:
            raise KeyError(path)
        self._drop({path})

    def is_implied(self, path: bytes) -> bool:
        """Say whether *path* is there only because something below it was added."""
        return path in self._implied

    def make_opaque(self, path: bytes) -> None:
        """Let nothing of lower layers shine through below folder *path*, which is made when it is missing."""
        if path not in self._nodes:
            self.add(path, _PARENT)
            self._implied.add(path)
        node = self._nodes[path]
        if node.kind is not Kind.DIRECTORY:
            raise InvalidInput("only a folder can be opaque", where=show(path))
        self._nodes[path] = dataclasses.replace(node, opaque=True)

    def children(self, path: bytes) -> list[bytes]:
        """Return the sorted paths directly in folder *path* (``b""``: the root)."""
        prefix = path + b"/" if path else b""
        start = len(prefix)
        return sorted(p for p in self._nodes if p.startswith(prefix) and b"/" not in p[start:] and len(p) > start)

    def resolve(self, path: bytes) -> Node:
        """Return the node at *path*, for a hard link the file that it names; raises KeyError."""
        node = self._nodes[path]
        return self._nodes[node.target] if node.kind is Kind.LINK else node

    def copy(self) -> Tree:
        """Return a tree with the same nodes, to be changed on its own."""
        other = Tree(self.limits)
        other._nodes = dict(self._nodes)
        other._implied = set(self._implied)
        other._links = {target: set(names) for target, names in self._links.items()}
        other._size = self._size
        other._names = self._names
        return other

    def merge(self, upper: Tree) -> Tree:
        """Return what is seen when layer *upper* lies on this tree: whiteouts are carried out, not kept."""
        result = self.copy()
        gone = {path for path, node in upper.items() if node.kind is Kind.WHITEOUT}
        gone |= {p for p, n in upper.items() if p in self and not (n.kind is self[p].kind is Kind.DIRECTORY)}
        opaque = {path for path, node in upper.items() if node.opaque}
        if opaque:
            gone |= {p for p in self._nodes if p.rpartition(b"/")[0] in opaque}
        if gone := gone & self._nodes.keys():
            result._drop(gone)
        for path, node in upper.items():
            if node.kind is Kind.WHITEOUT:
                continue
            if path in result:
                result._unput(path)
            # A hard link is put as the file first: what it names may come later in the order of bytes.
            found = upper.resolve(path)
            result.add(path, dataclasses.replace(found, opaque=False) if found.opaque else found)
        result._link_like(upper)
        return result

    @staticmethod
    def diff(lower: Tree, upper: Tree) -> Tree:
        """Return the layer that makes *upper* of *lower*: ``lower.merge(diff)`` shows the same as *upper*.

        Holds what is new or changed with all its parents, and a whiteout for the top of what is gone.
        """
        layer = Tree(upper.limits)
        for path in upper:
            if path not in lower or not _alike(lower.resolve(path), upper.resolve(path)):
                layer._add_with_parents(path, upper)
        for path in lower:
            parent = path.rpartition(b"/")[0]
            # Where a folder became something else, or is gone itself, its children need no whiteouts.
            if path not in upper and (not parent or _is_folder(upper, parent)):
                if parent:
                    layer._add_with_parents(parent, upper)
                layer.add(path, WHITEOUT)
        layer._link_like(upper)
        return layer

    def _add_with_parents(self, path: bytes, source: Tree) -> None:
        for part in reversed(list(_lineage(path))):
            if part not in self._nodes:
                self.add(part, source.resolve(part))

    def _link_like(self, source: Tree) -> None:
        for path, node in source.items():
            if node.kind is Kind.LINK and path in self._nodes and node.target in self._nodes:
                self._unput(path)
                self._put(path, node)

    def _need_parent(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        missing = []
        while parent and parent not in self._nodes:
            missing.append(parent)
            parent = parent.rpartition(b"/")[0]
        if parent and self._nodes[parent].kind is not Kind.DIRECTORY:
            raise InvalidInput(f"its parent {show(parent)} is not a folder", where=show(path))
        for folder in reversed(missing):
            self._put(folder, _PARENT)
            self._implied.add(folder)

    def _linked(self, path: bytes, node: Node) -> Node:
        target = self._nodes.get(node.target)
        if target is not None and target.kind is Kind.LINK:
            node = dataclasses.replace(node, target=target.target)
        elif target is None or target.kind is not Kind.FILE:
            raise InvalidInput(
                f"a hard link to {show(node.target)}, which is not a file of the tree", where=show(path)
            )
        return node

    def _put(self, path: bytes, node: Node) -> None:
        self._nodes[path] = node
        self._size += node.size
        self._names += _held(path, node)
        if node.kind is Kind.LINK:
            self._links.setdefault(node.target, set()).add(path)
        if len(self._nodes) > self.limits.entries:
            raise InvalidInput(f"more than {self.limits.entries} files", where=show(path))
        if self._size > self.limits.size:
            raise InvalidInput(f"the files are larger than {self.limits.size} bytes together", where=show(path))
        if self._names > self.limits.names:
            raise InvalidInput(f"the names are longer than {self.limits.names} bytes together", where=show(path))

    def _unput(self, path: bytes) -> None:
        node = self._nodes.pop(path)
        self._size -= node.size
        self._names -= _held(path, node)
        if node.kind is Kind.LINK:
            self._links.get(node.target, set()).discard(path)

    def _drop(self, tops: set[bytes]) -> None:
        gone = [path for path in self._nodes if not tops.isdisjoint(_lineage(path))]
        names = set(gone)
        for path in gone:
            node = self._nodes[path]
            left = sorted(self._links.pop(path, set()) - names)
            self._unput(path)
            self._implied.discard(path)
            if left:
                # The file lives on under its first other name.
                self._unput(left[0])
                self._put(left[0], node)
                for other in left[1:]:
                    link = self._nodes[other]
                    self._unput(other)
                    self._put(other, dataclasses.replace(link, target=left[0]))


def check_path(path: bytes) -> None:
    """Raise InvalidInput unless *path* is a plain relative path: no empty part, ``.``, ``..`` or NUL."""
    if not path or path.startswith(b"/") or b"\0" in path:
        raise InvalidInput("not a path inside an image", where=show(path) or "(empty)")
    if len(path) > MAX_PATH:
        raise InvalidInput(f"the path is longer than {MAX_PATH} bytes", where=show(path[:80]) + "…")
    for part in path.split(b"/"):
        if part in (b"", b".", b".."):
            raise InvalidInput("the path holds an empty part, . or ..", where=show(path))
        if len(part) > MAX_NAME:
            raise InvalidInput(f"a name is longer than {MAX_NAME} bytes", where=show(path[:80]) + "…")
        if part.startswith(WHITEOUT_PREFIX):
            raise InvalidInput("a name in an image cannot start with .wh.", where=show(path))


def show(path: bytes) -> str:
    """Return *path* for a message: what is not printable text is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _check_node(path: bytes, node: Node) -> None:
    if not 0 <= node.mode <= 0o7777:
        raise InvalidInput(f"the mode {node.mode:o} is not between 0 and 7777", where=show(path))
    if not (0 <= node.uid < 2**32 - 1 and 0 <= node.gid < 2**32 - 1):
        raise InvalidInput(f"the owner {node.uid}:{node.gid} cannot be", where=show(path))
    if node.kind is Kind.SYMLINK and (not node.target or b"\0" in node.target or len(node.target) > MAX_PATH):
        raise InvalidInput("the target of the symbolic link is empty, too long or holds a NUL", where=show(path))
    if node.xattrs:
        if sum(len(name) + len(value) for name, value in node.xattrs) > MAX_XATTRS:
            raise InvalidInput(f"its extended attributes are larger than {MAX_XATTRS} bytes", where=show(path))
        if list(node.xattrs) != sorted(dict(node.xattrs).items()):
            raise InvalidInput("its extended attributes are not sorted, or one is there twice", where=show(path))
        if node.kind not in (Kind.FILE, Kind.DIRECTORY) or not all(allowed_xattr(name) for name, _ in node.xattrs):
            raise InvalidInput("an extended attribute that an image cannot hold", where=show(path))


def allowed_xattr(name: bytes) -> bool:
    """Say whether an image may hold the extended attribute *name*.

    ``trusted.overlay.*`` in a layer would steer the overlay file system, and the others belong to a host.
    """
    return name == b"security.capability" or (name.startswith(b"user.") and not name.startswith(b"user.overlay."))


def _lineage(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _held(path: bytes, node: Node) -> int:
    """Return how many bytes of *node* that a stranger chose are held in memory."""
    return len(path) + len(node.target) + sum(len(name) + len(value) for name, value in node.xattrs)


def _is_folder(tree: Tree, path: bytes) -> bool:
    return path in tree and tree[path].kind is Kind.DIRECTORY


def _alike(one: Node, other: Node) -> bool:
    strip = dataclasses.replace
    return strip(one, content=b"") == strip(other, content=b"") and same(one.content, other.content)
