"""A Debian base: the essential packages, those that the recipe names, and what they need, installed from files.

What differs from run to run or from machine to machine is taken out, and so is what an image has no use for: package
lists and sources (an image gets no packages later), translations, manual pages and changelogs. Copyright files and
dpkg's database stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from stelae.build import debs
from stelae.build.bootstrap import bootstrap
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.inputs import Input
from stelae.images import content
from stelae.images.tree import Kind, Tree

_SUITE = re.compile(r"[a-z][a-z0-9.-]{0,63}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")

# Below these nothing stays; the folders themselves do.
_EMPTIED = (b"dev", b"proc", b"sys", b"run", b"tmp", b"var/tmp", b"var/cache", b"var/log",
            b"usr/share/man", b"usr/share/info", b"usr/share/locale", b"usr/share/lintian")  # fmt: skip
_REMOVED = re.compile(
    rb"(etc/(apt|hostname|resolv\.conf|hosts|machine-id|\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)"
    rb"|var/lib/(apt|dbus/machine-id|systemd/random-seed|systemd/credential\.secret)"
    rb"|var/lib/dpkg/(available|lock|lock-frontend|(status|available|diversions|statoverride)-old|triggers/Lock))(/.*)?"
)
_COPYRIGHT = re.compile(rb"usr/share/doc/[^/]+(/copyright)?")


def check(suite: str, packages: tuple[str, ...]) -> None:
    """Raise InvalidInput for a suite or a package whose name cannot be one."""
    if not _SUITE.fullmatch(suite):
        raise InvalidInput(f"not a Debian suite: {suite!r}", where="image.base", hint='for example "debian:bookworm"')
    for name in packages:
        if not _PACKAGE.fullmatch(name):
            raise InvalidInput(f"not a Debian package name: {name!r}", where="image.packages")


def make(suite: str, packages: Mapping[Input, Path], work: Path, progress: Callable[[str], None]) -> Tree:
    """Install *packages*, whose files lie in one folder, and return the files of the base; contents are read from
    files in *work*. Raises as ``bootstrap``, InvalidInput when a file is that of another package, Failed when what
    is installed is not what was asked for."""
    read = [_checked(item, debs.read(path)) for item, path in packages.items()]
    tree = bootstrap(read, work, progress)
    found, wanted = _installed(tree), {(item.name, item.version, item.architecture) for item in packages}
    if found != wanted:
        names = ", ".join(sorted(name for name, *_ in found ^ wanted))
        raise Failed(f"{suite} was installed otherwise than it was asked for: {names}")
    return _cleaned(tree)


def _checked(item: Input, deb: debs.Deb) -> debs.Deb:
    if (item.name, item.version, item.architecture) != (deb.name, deb.version, deb.architecture):
        raise InvalidInput(
            f"the digest that stelae.lock has for {item.name} {item.version} is that of {deb.name} {deb.version}",
            hint="run: stelae lock, and commit stelae.lock",
        )
    return deb


def _cleaned(tree: Tree) -> Tree:
    result = Tree(tree.limits)
    kept = [path for path in tree if not _unwanted(path)]
    # Hard links come after the files that they name.
    for path in sorted(kept, key=lambda path: (tree[path].kind is Kind.LINK, path)):
        node = tree[path]
        if node.kind is Kind.LINK and node.target not in result:
            raise Failed("a file that stays is a hard link to one that goes", where=content_name(path))
        result.add(path, node)
    return result


def content_name(path: bytes) -> str:
    """Return *path* for a message."""
    return path.decode("utf-8", "backslashreplace")


def _unwanted(path: bytes) -> bool:
    if any(path.startswith(folder + b"/") for folder in _EMPTIED):
        return True
    if path.startswith(b"usr/share/doc/"):
        return not _COPYRIGHT.fullmatch(path)
    return bool(_REMOVED.fullmatch(path))


def _installed(tree: Tree) -> set[tuple[str, str, str]]:
    """Return name, version and architecture of what dpkg has installed, and of nothing that is only half there."""
    status = content.read(tree[b"var/lib/dpkg/status"].content).decode("utf-8", "replace")
    found = set()
    for paragraph in status.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if line[:1] > " ")
        if fields.get("Status") == "install ok installed":
            found.add((fields.get("Package", ""), fields.get("Version", ""), fields.get("Architecture", "")))
    return found
