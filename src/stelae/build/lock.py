"""``stelae.lock``: what an app's base and dependencies are, so that a build is the same on any day.

The file is TOML: what the recipe asked for when it was locked, and one line for each Debian package, sorted,
with its version, its architecture and the SHA-256 of its ``.deb``. The archive's signed index vouches for
that digest.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stelae.build.config import FORMAT
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput

FILE_NAME = "stelae.lock"

_HEAD = "# What the base and the dependencies are. Written by `stelae lock`; commit it, do not edit it.\n"
_AGAIN = "run: stelae lock, and commit stelae.lock"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One Debian package: ``sha256`` is the digest of its ``.deb``."""

    name: str
    version: str
    architecture: str
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One ``stelae.lock``.

    ``base``, ``packages`` and ``python`` (the digest of the requirements file, "" without one) are what the
    recipe asked for; ``base_image`` is the manifest of an ``oci:`` base, ``debian`` what a ``debian:`` base
    holds, sorted by name.
    """

    base: str
    packages: tuple[str, ...] = ()
    python: str = ""
    architecture: str = ""
    base_image: str = ""
    debian: tuple[Package, ...] = ()

    def text(self) -> str:
        """Return the file's text."""
        lines = [f"format = {FORMAT}", f"base = {_quoted(self.base)}", f"architecture = {_quoted(self.architecture)}"]
        lines.append(f"packages = [{', '.join(_quoted(name) for name in self.packages)}]")
        if self.python:
            lines.append(f"python = {_quoted(self.python)}")
        if self.base_image:
            lines.append(f"base_image = {_quoted(self.base_image)}")
        if self.debian:
            lines += ["", "[debian]"]
        for package in self.debian:
            value = f"{package.version} {package.architecture} {package.sha256}"
            lines.append(f"{_quoted(package.name)} = {_quoted(value)}")
        return _HEAD + "\n".join(lines) + "\n"


def parse(text: str) -> Lock:
    """Return the lock that *text* holds; raises InvalidInput when it is damaged or of another format."""
    try:
        document = tomllib.loads(text)
        if document.pop("format") != FORMAT:
            raise InvalidInput(
                f"it is not of format {FORMAT}, which this Stelae builds", where=FILE_NAME, hint=_AGAIN
            )
        debian = tuple(_package(name, value) for name, value in sorted(_table(document.pop("debian", {})).items()))
        return Lock(
            base=_text(document.pop("base")),
            packages=tuple(_text(name) for name in document.pop("packages")),
            python=_text(document.pop("python", "")),
            architecture=_text(document.pop("architecture")),
            base_image=_text(document.pop("base_image", "")),
            debian=debian,
            **document,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"it is damaged: {error}", where=FILE_NAME, hint=_AGAIN) from error


def check_recipe(lock: Lock, wanted: Lock) -> None:
    """Raise InvalidInput when *lock* was made for another recipe than *wanted* (of which ``debian`` and
    ``base_image`` play no part), saying what differs."""
    for name, locked, now in (
        ("base", lock.base, wanted.base),
        ("packages", list(lock.packages), list(wanted.packages)),
        ("the python requirements", lock.python or "none", wanted.python or "none"),
        ("the architecture", lock.architecture, wanted.architecture),
    ):
        if locked != now:
            raise InvalidInput(f"{name} changed since it was locked: {locked} locked, {now} now",
                               where=FILE_NAME, hint=_AGAIN)  # fmt: skip


def check_resolved(lock: Lock, offered: Sequence[Package], base_image: str = "") -> None:
    """Raise Failed when what the archive offers now is not what *lock* says, naming each difference."""
    if base_image != lock.base_image:
        raise Failed(f"stelae.lock is stale: the base image is {base_image}, {lock.base_image} locked", hint=_AGAIN)
    locked, now = ({package.name: package for package in packages} for packages in (lock.debian, offered))
    changes = [
        _change(locked.get(name), now.get(name))
        for name in sorted(locked.keys() | now.keys())
        if locked.get(name) != now.get(name)
    ]
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise Failed(f"stelae.lock is stale: {changes[0]}{more}", hint=_AGAIN, details=tuple(changes[:_SHOWN]))


def _change(locked: Package | None, now: Package | None) -> str:
    if locked is None:
        assert now is not None
        return f"{now.name} is not locked, {now.version} offered"
    if now is None:
        return f"{locked.name} {locked.version} locked, not needed now"
    if locked.version == now.version:
        return f"{locked.name} {locked.version} has other bytes than the locked ones"
    return f"{locked.name} {locked.version} locked, {now.version} offered"


def _package(name: str, value: object) -> Package:
    version, architecture, sha256 = _text(value).split(" ")
    if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(sha256):
        raise ValueError(f"not a package: {name!r} = {value!r}")
    return Package(name=name, version=version, architecture=architecture, sha256=Digest(sha256))


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("debian is not a table")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _quoted(text: str) -> str:
    # A JSON string of printable characters is a TOML basic string.
    return json.dumps(text)
