"""``package-lock.json`` and ``npm-shrinkwrap.json`` of version 2 and 3: what belongs where in ``node_modules``.

Each entry of ``packages`` names a place, a version and the SHA-512 of the tarball; so nothing is resolved here, only
chosen: development dependencies are left out (in a stage they are not), and optional ones that are not for the
image's machine, with all that only they need. Source: npm's documentation, "package-lock.json"; the choice is that of
npm's own Arborist.
"""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stelae.build.package_graph import unfit
from stelae.domain.errors import InvalidInput

MOST = 50_000
"""How many entries a lock may have."""

_NAME = re.compile(r"(@[A-Za-z0-9~_-][A-Za-z0-9._~-]*/)?[A-Za-z0-9~_-][A-Za-z0-9._~-]*")
_TAIL = re.compile(rf"(?:^|/)node_modules/({_NAME.pattern})$")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,255}")
_SHA512 = re.compile(r"sha512-([A-Za-z0-9+/]{86}==)")
_AGAIN = "write it again: npm install --package-lock-only"
_UPGRADE = "npm 7 or newer writes version 3: npm install --package-lock-only --lockfile-version 3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The machine that packages are chosen for, in npm's words: ``cpu`` ("x64", "arm64"), ``libc`` ("glibc", "musl",
    "" when it is unknown). The system is always "linux"."""

    cpu: str
    libc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmPackage:
    """One package at one place (``node_modules/a/node_modules/b``, below the folder of the lock).

    ``sha512`` is the digest of its tarball (hexadecimal); ``resolved`` the address in the lock, "" without one;
    ``scripts`` says whether it has install scripts. One that is bundled with another has neither tarball nor digest.
    """

    place: str
    name: str
    version: str
    sha512: str = ""
    resolved: str = ""
    bins: tuple[tuple[str, str], ...] = ()
    scripts: bool = False

    @property
    def bundled(self) -> bool:
        """Say whether another package's tarball holds it."""
        return not self.sha512


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A workspace: a link at ``place`` to the folder ``target`` of the commit, both below the folder of the lock."""

    place: str
    target: str
    bins: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to install, sorted by place."""

    packages: tuple[NpmPackage, ...]
    links: tuple[Link, ...]


def read(where: str, data: bytes, platform: Platform, *, dev: bool = False) -> Plan:
    """Return what the lock *where* says for *platform*; with *dev* that holds development dependencies too.

    Raises InvalidInput, naming the entry, for another version of the format, a package that comes from git, a folder
    or a file, one without a SHA-512, one that is not for *platform* and is needed, and what is damaged.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {str(error)[:200]}", where=where) from error
    entries = _entries(document, where)
    gone = unfit(entries, platform.cpu, platform.libc, where, dev=dev)
    packages, links = [], []
    for place, entry in sorted(entries.items()):
        if place and place not in gone and (dev or not entry.get("dev")) and not entry.get("extraneous"):
            at = f"{where}: {_shown(place)}"
            if entry.get("link"):
                links.append(_link(place, entry, entries, at))
            elif _TAIL.search(place):
                packages.append(_package(place, entry, at))
    return Plan(packages=tuple(packages), links=tuple(links))


def _entries(document: Any, where: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(document, dict):
        raise InvalidInput("not a package-lock: no object", where=where, hint=_AGAIN)
    version = document.get("lockfileVersion")
    if version not in (2, 3) or isinstance(version, bool):
        raise InvalidInput(f"lockfileVersion {version!r:.40}; 2 and 3 are supported", where=where, hint=_UPGRADE)
    packages = document.get("packages")
    if not isinstance(packages, dict) or not all(isinstance(entry, dict) for entry in packages.values()):
        raise InvalidInput("it has no packages", where=where, hint=_UPGRADE)
    if len(packages) > MOST:
        raise InvalidInput(f"it has more than {MOST} packages", where=where)
    for place in packages:
        _check_path(place, f"{where}: {_shown(place)}")
    return packages


def _check_path(path: str, where: str) -> None:
    parts = path.split("/")
    if path and (any(part in ("", ".", "..") for part in parts) or not path.isprintable()):
        raise InvalidInput("a place outside the folder of the lock", where=where, hint=_AGAIN)


def _package(place: str, entry: Mapping[str, Any], where: str) -> NpmPackage:
    name, version = entry.get("name", _tail(place)), entry.get("version", "")
    resolved, scripts = entry.get("resolved") or "", bool(entry.get("hasInstallScript"))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 214:
        raise InvalidInput(f"not the name of a package: {name!r:.100}", where=where, hint=_AGAIN)
    if not isinstance(resolved, str) or (resolved and not resolved.startswith(("https://", "http://"))):
        # npm writes true for a package that is in its parent's tarball, in old locks.
        if resolved is not True:
            raise _foreign(str(resolved), where)
        resolved = ""
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise InvalidInput(f"not a version: {version!r:.100}", where=where, hint=_AGAIN)
    bins = tuple(_bins(entry.get("bin"), name, where))
    if entry.get("inBundle"):
        return NpmPackage(place=place, name=name, version=version, bins=bins, scripts=scripts)
    return NpmPackage(
        place=place, name=name, version=version, sha512=_sha512(entry.get("integrity"), where), bins=bins,
        resolved=resolved.partition("#")[0], scripts=scripts,
    )  # fmt: skip


def _foreign(resolved: str, where: str) -> InvalidInput:
    kind = "git" if resolved.startswith("git") else "a file" if resolved.startswith("file:") else "an unknown source"
    return InvalidInput(
        f"it comes from {kind}, and a build takes packages of a registry only", where=where,
        hint="publish it to a registry that the builder reaches, or make it a workspace of the app",
    )  # fmt: skip


def _sha512(integrity: object, where: str) -> str:
    found = [match for word in str(integrity or "").split() if (match := _SHA512.fullmatch(word.partition("?")[0]))]
    if not found:
        raise InvalidInput(
            "it has no integrity of SHA-512", where=where,
            hint="delete its entry, or the whole lock, and run: npm install --package-lock-only",
        )  # fmt: skip
    try:
        return base64.b64decode(found[0][1], validate=True).hex()
    except binascii.Error as error:
        raise InvalidInput("its integrity is damaged", where=where, hint=_AGAIN) from error


def _link(place: str, entry: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]], where: str) -> Link:
    target = entry.get("resolved")
    if not isinstance(target, str) or not target or target.startswith(("file:", "/")):
        raise InvalidInput("a link to no folder of the commit", where=where, hint=_AGAIN)
    target = posixpath.normpath(target)
    _check_path(target if target != "." else "", where)
    if not _TAIL.search(place):
        raise InvalidInput("a link outside node_modules", where=where, hint=_AGAIN)
    return Link(
        place=place, target=target, bins=tuple(_bins(entries.get(target, {}).get("bin"), _tail(place), where))
    )


def _bins(value: object, name: str, where: str) -> Iterator[tuple[str, str]]:
    """Yield the names and paths of programs, made harmless as npm does it ("npm-normalize-package-bin")."""
    if value is None:
        return
    found = {name.rpartition("/")[2]: value} if isinstance(value, str) else value
    if not isinstance(found, dict) or not all(isinstance(path, str) for path in found.values()):
        raise InvalidInput("its bin is damaged", where=where, hint=_AGAIN)
    for key, path in sorted(found.items()):
        program = posixpath.basename(re.sub(r"[\\:]", "/", key))
        target = posixpath.normpath("/" + path.replace("\\", "/")).lstrip("/")
        if program in ("", ".", "..") or not target:
            continue
        if not (program + target).isprintable() or program.startswith(".wh."):
            raise InvalidInput("its bin is damaged", where=where, hint=_AGAIN)
        yield program, target


def _tail(place: str) -> str:
    found = _TAIL.search(place)
    return found[1] if found else ""


def _shown(place: str) -> str:
    return place if place.isprintable() else repr(place)
