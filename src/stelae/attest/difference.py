"""What differs between two images: packages, files, layers, processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stelae.attest.contents import Inspector
from stelae.attest.packages import Package
from stelae.domain.digest import Digest
from stelae.domain.image import Image
from stelae.images.content import same
from stelae.images.layout import Layout
from stelae.images.tar_reader import read_layer
from stelae.images.tree import Kind, Node, Tree, show


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PackageChange:
    """A package that is another one: ``old`` and ``new`` are its versions, empty where it is not there."""

    kind: str
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FileChange:
    """A path that is another one: ``old`` and ``new`` say its kind, mode, owner and size in bytes; ``None`` where it
    is not there. ``content`` says that what is in it differs (also the target of a link)."""

    path: str
    old: tuple[str, int, str, int] | None
    new: tuple[str, int, str, int] | None
    content: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs from one image to another: sorted packages, files, and processes by name, with ``added``,
    ``removed`` or ``changed``; ``layers`` are (digest, size in bytes, in the old one, in the new one)."""

    packages: tuple[PackageChange, ...]
    files: tuple[FileChange, ...]
    layers: tuple[tuple[Digest, int, bool, bool], ...]
    processes: tuple[tuple[str, str], ...]


def difference(layout: Layout, inspector: Inspector, old: Image, new: Image) -> Difference:
    """Return what differs from *old* to *new*; raises Failed or InvalidInput when one cannot be read."""
    one, other = layout.layers(old.digest), layout.layers(new.digest)
    lower, upper = _trees(layout, one, other)
    return Difference(
        packages=_packages(inspector.contents(old.digest).packages, inspector.contents(new.digest).packages),
        files=_files(lower, upper),
        layers=tuple(
            (digest, layout.blob_path(digest).stat().st_size, digest in one, digest in other)
            for digest in dict.fromkeys((*one, *other))
        ),
        processes=_processes(old, new),
    )


def _trees(layout: Layout, one: tuple[Digest, ...], other: tuple[Digest, ...]) -> tuple[Tree, Tree]:
    """Return the trees of both; the layers that both begin with are read once."""
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    below = _merged(layout, Tree(), one[:shared])
    return _merged(layout, below, one[shared:]), _merged(layout, below, other[shared:])


def _merged(layout: Layout, tree: Tree, layers: Iterable[Digest]) -> Tree:
    for digest in layers:
        tree = tree.merge(read_layer(layout.blob_path(digest), skip_devices=True))
    return tree


def _packages(old: Iterable[Package], new: Iterable[Package]) -> tuple[PackageChange, ...]:
    before, after = _versions(old), _versions(new)
    changes = []
    for key in sorted(before.keys() | after.keys()):
        gone = sorted(before.get(key, set()) - after.get(key, set()))
        come = sorted(after.get(key, set()) - before.get(key, set()))
        # A package may be there in several versions (npm): what is left over was added or removed.
        for index in range(max(len(gone), len(come))):
            was = gone[index] if index < len(gone) else ""
            is_now = come[index] if index < len(come) else ""
            changes.append(PackageChange(kind=key[0], name=key[1], old=was, new=is_now))
    return tuple(changes)


def _versions(packages: Iterable[Package]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for item in packages:
        found.setdefault((item.kind.value, item.name), set()).add(item.version)
    return found


def _files(old: Tree, new: Tree) -> tuple[FileChange, ...]:
    changes = []
    for path in sorted(set(old) | set(new)):
        before = old.resolve(path) if path in old else None
        after = new.resolve(path) if path in new else None
        content = before is None or after is None or not _same(before, after)
        was, now = _said(before), _said(after)
        if content or was != now:
            changes.append(FileChange(path=show(path), old=was, new=now, content=content))
    return tuple(changes)


def _same(one: Node, other: Node) -> bool:
    if one.kind is not other.kind:
        return False
    if one.kind is Kind.SYMLINK:
        return one.target == other.target
    return one.xattrs == other.xattrs and same(one.content, other.content)


def _said(node: Node | None) -> tuple[str, int, str, int] | None:
    return None if node is None else (node.kind.value, node.mode, f"{node.uid}:{node.gid}", node.size)


def _processes(old: Image, new: Image) -> tuple[tuple[str, str], ...]:
    before, after = {item.name: item for item in old.processes}, {item.name: item for item in new.processes}
    words = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            words.append((name, "added" if name not in before else "removed" if name not in after else "changed"))
    return tuple(words)
