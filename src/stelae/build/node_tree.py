"""``node_modules`` as a tree: packages at their places, links to workspaces, programs in ``.bin``.

Programs are linked as npm does it: the first package to claim a name has it, a program that is not there is left out,
and one that is linked is executable and has no Windows line end after ``#!``. Source: npm's "bin-links".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stelae.build.npm_tarball import MOST_BYTES, unpack
from stelae.build.package_lock import Link, NpmPackage, Plan
from stelae.domain.errors import InvalidInput
from stelae.images import content
from stelae.images.tree import Kind, Tree, directory, symlink

_MARKS = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"
_HASHBANG = re.compile(rb"\A#![^\n]+\r\n")
_HEAD = 2048
_MOST_PROGRAM = 64 << 20


def node_tree(plan: Plan, tarballs: Mapping[str, Path], folder: str, work: Path) -> Tree:
    """Return the tree of *plan* below *folder* (absolute); *tarballs* are files by place, *work* is an empty or new
    folder for what is unpacked, which must stay as long as the contents are read.

    Raises InvalidInput, naming the package and the entry, for a tarball that cannot be unpacked.
    """
    work = work / "npm"
    work.mkdir()
    top = folder.strip("/").encode()
    tree = Tree()
    unpacked: dict[Path, Tree] = {}
    for package in plan.packages:
        if not package.bundled:
            tarball = tarballs[package.place]
            if tarball not in unpacked:
                unpacked[tarball] = _unpacked(package, tarball, work / f"{len(unpacked)}.tar")
            _place(tree, _join(top, package.place), unpacked[tarball])
    for link in plan.links:
        tree.put(_join(top, link.place), symlink(_relative(link.target, posixpath.dirname(link.place))))
    _programs(tree, plan, top)
    return tree


def _unpacked(package: NpmPackage, tarball: Path, tar: Path) -> Tree:
    try:
        return unpack(tarball, tar, size=MOST_BYTES)
    except InvalidInput as error:
        raise InvalidInput(
            str(error), where=f"{package.name} {package.version}", hint=error.hint or "the package is damaged"
        ) from error


def _place(tree: Tree, place: bytes, files: Tree) -> None:
    if place in tree:
        tree.remove(place)  # a copy in the tarball of the package above
    tree.put(place, directory())
    for path, node in files.items():
        tree.add(place + b"/" + path, node)


def _programs(tree: Tree, plan: Plan, top: bytes) -> None:
    claimed: set[str] = set()
    owners: list[NpmPackage | Link] = [*plan.packages, *plan.links]
    for owner in sorted(owners, key=lambda owner: _order(owner.place)):
        modules = owner.place[: owner.place.rindex("node_modules/") + len("node_modules")]
        for name, path in owner.bins:
            place = f"{modules}/.bin/{name}"
            if place in claimed:
                continue
            claimed.add(place)
            source = owner.target if isinstance(owner, Link) else owner.place
            if isinstance(owner, Link) or _make_program(tree, _join(top, f"{source}/{path}")):
                # npm reaches a workspace by its folder, not by the link to it.
                target = _relative(posixpath.normpath(f"{source}/{path}"), f"{modules}/.bin")
                tree.add(_join(top, place), symlink(target))


def _make_program(tree: Tree, path: bytes) -> bool:
    """Make the file executable and say whether it is there."""
    node = tree.get(path)
    if node is None or node.kind is not Kind.FILE:
        return node is not None
    node = replace(node, mode=0o755)
    head = next(content.chunks(node.content), b"")[:_HEAD]
    if _HASHBANG.match(head) and node.size <= _MOST_PROGRAM:
        node = replace(node, content=_HASHBANG.sub(lambda found: found[0][:-2] + b"\n", content.read(node.content)))
    tree.put(path, node)
    return True


def _order(place: str) -> tuple[int, list[int], str]:
    """Return what npm sorts by: how deep, then the path as the English language sorts it, marks first."""
    weights = [_MARKS.index(mark) if mark in _MARKS else 100 + ord(mark) for mark in place.lower()]
    return place.count("node_modules/"), weights, place.swapcase()


def _relative(target: str, start: str) -> bytes:
    return posixpath.relpath("/" + target, "/" + start).encode()


def _join(top: bytes, place: str) -> bytes:
    return top + b"/" + place.encode() if top else place.encode()
