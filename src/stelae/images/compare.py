"""What differs between two trees, path by path, in words for a person."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.images.content import Content, chunks
from stelae.images.tree import Kind, Node, Tree, show


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """One path that differs, and how: a phrase for each property."""

    path: str
    how: tuple[str, ...]


def compare(old: Tree, new: Tree) -> tuple[PathChange, ...]:
    """Return what differs from *old* to *new*, sorted by path: also file times, which no layer of ours has."""
    changes = []
    for path in sorted(old.keys() | new.keys()):
        how = _how(old, new, path)
        if how:
            changes.append(PathChange(path=show(path), how=how))
    return tuple(changes)


def _how(old: Tree, new: Tree, path: bytes) -> tuple[str, ...]:
    if path not in new:
        return ("removed",)
    if path not in old:
        return ("added",)
    one, other = old[path], new[path]
    if one.kind is not other.kind:
        return (f"was a {one.kind}, now a {other.kind}",)
    if one.kind is Kind.LINK:
        return _changed("hard link", show(one.target), show(other.target))
    return (
        *_changed("mode", f"{one.mode:04o}", f"{other.mode:04o}"),
        *_changed("owner", f"{one.uid}:{one.gid}", f"{other.uid}:{other.gid}"),
        *_changed("time", str(one.mtime), str(other.mtime)),
        *_changed("target", show(one.target), show(other.target)),
        *_changed("opaque", str(one.opaque), str(other.opaque)),
        *_attributes(one, other),
        *_changed("size", str(one.size), str(other.size)),
        *_bytes(one.content, other.content),
    )


def _changed(what: str, old: str, new: str) -> tuple[str, ...]:
    return () if old == new else (f"{what} {old}, now {new}",)


def _attributes(old: Node, new: Node) -> tuple[str, ...]:
    one, other = dict(old.xattrs), dict(new.xattrs)
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return tuple(f"extended attribute {show(name)}" for name in names)


def _bytes(old: Content, new: Content) -> tuple[str, ...]:
    """Return where the contents differ first, counted from 1."""
    if old == new:
        return ()
    before, after, place = b"", b"", 0
    one, other = chunks(old), chunks(new)
    while True:
        before, after = before or next(one, b""), after or next(other, b"")
        size = min(len(before), len(after))
        if before[:size] != after[:size]:
            place += next(n for n in range(size) if before[n] != after[n])
            return (f"content from byte {place + 1}",)
        if not size:
            return () if len(before) == len(after) else (f"content from byte {place + 1}",)
        before, after, place = before[size:], after[size:], place + size
