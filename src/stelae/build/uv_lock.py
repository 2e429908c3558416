"""``uv.lock``, version 1: what the project of a folder needs, without its extras and its dependency groups.

The dependencies are walked from the project on, with markers for the image's Python; several versions of a package
are told apart as uv writes it, by version, by source and by marker. The addresses in the file name the registry of
whoever wrote it; they are not used: name, version and hash say all, and the builder's own index has the file.
The project itself is not installed, because to build it is to run its code: it is among the files of the commit.
Source: uv's documentation, "Resolver internals", and the files that uv writes; there is no specification.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.domain.errors import InvalidInput

_OWN = ("editable", "virtual")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_AGAIN = "write it again: uv lock"

Package = Mapping[str, Any]


def read(document: Mapping[str, Any], where: str, target: Target) -> tuple[Pinned, ...]:
    """Return what the project in the folder of the lock needs on *target*.

    Raises InvalidInput for another version of the format, a Python that the project excludes, a package that comes
    from git or a folder, one without a wheel, and what is damaged.
    """
    if document.get("version") != 1:
        raise InvalidInput(
            f"uv.lock of version {document.get('version')!r}; 1 is supported", where=where, hint=_AGAIN
        )
    try:
        _check_python(document, where, target)
        return tuple(_Walk(document, where, target).pinned())
    except (KeyError, TypeError, ValueError, AttributeError, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise InvalidInput(f"it is damaged: {str(error)[:200]}", where=where, hint=_AGAIN) from error


def _check_python(document: Mapping[str, Any], where: str, target: Target) -> None:
    wanted = document.get("requires-python", "")
    try:
        fits = SpecifierSet(wanted).contains(Version(target.version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion) as error:
        raise InvalidInput(f"requires-python is damaged: {wanted!r}", where=where, hint=_AGAIN) from error
    if not fits:
        raise InvalidInput(
            f"the lock is for Python {wanted}, and the image has {target.version}", where=where,
            hint="take another base, or change requires-python and run: uv lock",
        )  # fmt: skip


class _Walk:
    """One way through the graph of a lock."""

    def __init__(self, document: Mapping[str, Any], where: str, target: Target) -> None:
        self._where = where
        self._environment = target.markers
        self._packages: dict[str, list[Package]] = {}
        for package in document.get("package", []):
            self._packages.setdefault(_text(package["name"]), []).append(package)
        self._members = {_text(name) for name in document.get("manifest", {}).get("members", [])}

    def pinned(self) -> Iterator[Pinned]:
        waiting = [(package, "") for package in self._roots()]
        seen: set[tuple[int, str]] = set()
        while waiting:
            package, extra = waiting.pop()
            if (id(package), extra) in seen:
                continue
            seen.add((id(package), extra))
            if not extra and not _is_own(package):
                yield self._pin(package)
            waiting += self._needed(package, extra)

    def _roots(self) -> list[Package]:
        everything = [package for packages in self._packages.values() for package in packages]
        own = [package for package in everything if _is_own(package)]
        root = [package for package in own if "." in map(package["source"].get, _OWN)]
        # A workspace whose root is no project has members only.
        found = root or [package for package in own if package["name"] in self._members]
        if not found:
            raise InvalidInput("it names no project of its own", where=self._where, hint=_AGAIN)
        return found

    def _needed(self, package: Package, extra: str) -> Iterator[tuple[Package, str]]:
        listed = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        for dependency in listed:
            if self._applies(_text(dependency.get("marker", ""))):
                found = self._find(dependency, package)
                yield found, ""
                for name in dependency.get("extra", []):
                    yield found, _text(name)

    def _find(self, dependency: Package, by: Package) -> Package:
        """Return the one package that a dependency means: only where there are several, it says more than a name."""
        name = _text(dependency["name"])
        found = self._packages.get(name, [])
        for key in ("version", "source"):
            if key in dependency:
                found = [package for package in found if package.get(key) == dependency[key]]
        if len(found) > 1:
            found = [package for package in found if any(map(self._applies, package.get("resolution-markers", [""])))]
        if len(found) != 1:
            raise InvalidInput(
                f"{by['name']} needs {name}, which is there {len(found)} times", where=self._where, hint=_AGAIN
            )
        return found[0]

    def _applies(self, marker: str) -> bool:
        try:
            return not marker or Marker(marker).evaluate(dict(self._environment))
        except InvalidMarker as error:
            raise InvalidInput(f"not a marker: {marker[:200]}", where=self._where, hint=_AGAIN) from error

    def _pin(self, package: Package) -> Pinned:
        name, source = checked_name(package["name"], self._where), package["source"]
        kind = next((kind for kind in ("git", "path", "directory") if kind in source), None)
        if kind or not ("registry" in source or "url" in source):
            raise InvalidInput(
                f"{name} comes from {kind or 'an unknown source'}, and a build takes packages of an index only",
                where=self._where, hint="publish it to an index that the builder reaches, or copy it into the app",
            )  # fmt: skip
        wheels = package.get("wheels", [])
        files = [
            (file_name(wheel), found[1]) for wheel in wheels if (found := _SHA256.fullmatch(wheel.get("hash", "")))
        ]
        if not files:
            raise no_wheel(name, _text(package.get("version", "")), self._where)
        url = checked_url(_text(wheels[0]["url"]), name, self._where) if "url" in source else ""
        return pin(name, _text(package["version"]), files, url)


def pin(name: str, version: str, files: Sequence[tuple[str, str]], url: str = "") -> Pinned:
    """Return a package of which the lock tells the wheels: names of files and digests."""
    return Pinned(
        name=name, version=str(Version(version)), hashes=tuple(digest for _, digest in files),
        files=tuple(file for file, _ in files), url=url,
    )  # fmt: skip


def no_wheel(name: str, version: str, where: str) -> InvalidInput:
    """Return the error for a package that there is only in source."""
    return InvalidInput(
        f"{name} {version} has no wheel with a hash", where=where,
        hint="only wheels are installed, so that a build runs no code of a package",
    )  # fmt: skip


def checked_name(name: object, where: str) -> str:
    """Return the name of a package in its normal form; raises InvalidInput."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"not the name of a package: {name!r}", where=where, hint=_AGAIN)
    return canonicalize_name(name)


def checked_url(url: str, name: str, where: str) -> str:
    """Return the address of a package that is in no index; raises InvalidInput for anything but plain HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise InvalidInput(f"{name} comes from an address that is not HTTP", where=where)
    if parts.username or parts.password:
        raise InvalidInput(
            f"the address of {name} holds a password", where=where, hint="give the builder a netrc for it instead"
        )
    return url.partition("#")[0]


def file_name(wheel: Mapping[str, Any]) -> str:
    """Return the name of a wheel's file, of an entry with ``filename`` or ``name``, ``url`` or ``path``."""
    for key in ("filename", "name"):
        if key in wheel:
            return _text(wheel[key])
    path = _text(wheel["path"]) if "path" in wheel else urlsplit(_text(wheel["url"])).path
    return unquote(posixpath.basename(path))


def _is_own(package: Package) -> bool:
    return any(kind in package["source"] for kind in _OWN)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value
