"""From Debian packages to the files of a base: what mmdebstrap and debootstrap do, by the packages' own dpkg.

Nothing of the host shapes the result, and nothing of the packages runs on the host: the essential packages are laid
out as files, and then their own dpkg installs all packages, these among them, in the sandbox, where there is no
network. So the same packages give the same bytes wherever and whenever they are installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stelae.build.config import architecture
from stelae.build.debs import Deb, check_names, essential, rounds
from stelae.build.sandbox import BeyondError, Rules, Sandbox, lay_out
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.recipe import Limits
from stelae.domain.units import GIB, HOUR
from stelae.images.tar_reader import read_layer
from stelae.images.tree import Kind, Node, Tree, directory, file, symlink
from stelae.system.command import run

_MERGED = {"amd64": (b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32")}
_MERGED_ELSEWHERE = (b"bin", b"sbin", b"lib")
_DEBS = "/run/debs"
_SETTINGS = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true", "DEBCONF_NOWARNINGS": "yes"}
# Services are started by no package: there is no system that they would serve.
_POLICY = "/usr/sbin/policy-rc.d"
# A desktop's worth; what a recipe says of its own lines plays no part.
_LIMITS = Limits(time=HOUR, memory=4 * GIB, disk=100 * GIB)
_SECONDS = 1.0
_DPKG = "dpkg --force-unsafe-io --abort-after=1000000"


def bootstrap(debs: Sequence[Deb], work: Path, progress: Callable[[str], None]) -> Tree:
    """Install *debs*, whose files lie in one folder, and return all files; contents are read from files in *work*.

    Raises InvalidInput when they hold no system that can install packages, Failed when one cannot be installed.
    """
    check_names(debs)
    first = essential(debs)
    if not any(deb.name == "dpkg" for deb in first):
        raise InvalidInput("the packages hold no dpkg", where="image.base")
    progress(f"base: laying out {len(first)} essential packages")
    seed = _laid_out(first, work / "essential", merged=any(deb.name == "usr-is-merged" for deb in debs))
    place = work / "base"
    place.mkdir()
    rules = Rules(
        where="image.packages", settings=_SETTINGS, shown={_DEBS: debs[0].path.parent}, limits=_LIMITS,
        configured=False,
    )  # fmt: skip
    sandbox = Sandbox([lay_out(seed, work / "seed")], place, rules)
    progress(f"base: installing {len(debs)} packages")
    lines = _lines(first, rounds([deb for deb in debs if deb not in first], first))
    try:
        sandbox.run(lines, "/", _quiet(progress))
    except Failed as error:
        if not error.where:
            raise
        why = f": {error.said}" if isinstance(error, BeyondError) else ""
        raise Failed(
            f"a Debian package cannot be installed{why}", where="image.packages", details=error.details
        ) from error
    return seed.merge(sandbox.changes())


def _lines(first: Sequence[Deb], groups: Sequence[Sequence[Deb]]) -> str:
    lines = [f"printf '#!/bin/sh\\nexit 101\\n' >{_POLICY}; chmod 755 {_POLICY}"]
    # The order in which they are unpacked is not that of Pre-Depends, but the files are all there.
    lines.append(f"{_DPKG} --force-depends --install {_names(first)}")
    for number, group in enumerate(groups, start=1):
        lines.append(f"{_DPKG} --unpack {_names(group)}")
        # What needs packages of a later group is configured after it.
        lines.append(f"{_DPKG} --configure --pending" + (" || true" if number < len(groups) else ""))
    return "\n".join([*lines, f"rm {_POLICY}"])


def _names(debs: Sequence[Deb]) -> str:
    return " ".join(f"'{_DEBS}/{deb.path.name}'" for deb in debs)


def _laid_out(debs: Sequence[Deb], folder: Path, *, merged: bool) -> Tree:
    """Return the files of *debs*; with *merged*, /bin and the like are links into /usr, as the packages expect it."""
    folder.mkdir()
    tree = Tree()
    if merged:
        for name in _MERGED.get(architecture(), _MERGED_ELSEWHERE):
            tree.put(b"usr/" + name, directory())
            tree.put(name, symlink(b"usr/" + name))
    links: list[tuple[bytes, Node]] = []
    for deb in debs:
        unpacked = folder / f"{deb.name}.tar"
        unpacked.write_bytes(run(["dpkg-deb", "--fsys-tarfile", deb.path]).stdout)
        for path, node in read_layer(unpacked, skip_devices=True).items():
            place = _place(path, tree)
            if node.kind is Kind.LINK:
                links.append((place, Node(kind=Kind.LINK, target=_place(node.target, tree))))
            elif node.kind is not Kind.DIRECTORY or place not in tree:
                tree.put(place, node)
    for place, node in links:
        tree.put(place, node)
    for name in (b"status", b"available"):
        tree.put(b"var/lib/dpkg/" + name, file(b""))
    for name in (b"info", b"updates", b"triggers"):
        if b"var/lib/dpkg/" + name not in tree:
            tree.put(b"var/lib/dpkg/" + name, directory())
    return tree


def _place(path: bytes, tree: Tree) -> bytes:
    """Return where *path* of a package lies: below /usr, when its first folder is a link there."""
    top, _, rest = path.partition(b"/")
    node = tree.get(top)
    if rest and node is not None and node.kind is Kind.SYMLINK:
        return node.target.lstrip(b"/") + b"/" + rest
    return path


def _quiet(progress: Callable[[str], None]) -> Callable[[str], None]:
    """Return what tells of dpkg's many lines only which package is set up, and that once a second."""
    next_at = 0.0

    def tell(line: str) -> None:
        nonlocal next_at
        _, found, package = line.partition("Setting up ")
        if found and time.monotonic() >= next_at:
            next_at = time.monotonic() + _SECONDS
            progress("base: setting up " + package.partition(" (")[0].lower())

    return tell
