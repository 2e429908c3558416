"""Packages: what is inside an image, as the databases in the image itself name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from packageurl import PackageURL

from stelae.domain.inputs import InputKind


class PackageKind(StrEnum):
    """Whose package it is: the type of its package URL."""

    DEB = "deb"
    PYPI = "pypi"
    NPM = "npm"


KINDS = {InputKind.DEB: PackageKind.DEB, InputKind.WHEEL: PackageKind.PYPI, InputKind.NPM: PackageKind.NPM}
"""Whose package an input of a build is; one that is not here is no package."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One package of an image.

    ``name`` and ``version`` are as its own ecosystem writes them (a Python name is normalised as PEP 503 says, an
    npm name has its scope). ``path`` is the database that names it, ``layer`` the digest of the lowest layer that
    has it in this version. ``architecture`` and ``source`` (``NAME VERSION`` of the source package where it differs)
    are known for Debian's. ``licences`` are SPDX expressions or names, sorted.
    """

    kind: PackageKind
    name: str
    version: str
    path: str = ""
    layer: str = ""
    architecture: str = ""
    source: str = ""
    licences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What ``os-release`` says of an image: ``id`` (``debian``) and ``version`` (``12``), empty when it is silent."""

    id: str = ""
    version: str = ""


@lru_cache(maxsize=4096)  # the packages of a base are in each image that is made of it
def purl(package: Package, distribution: Distribution) -> str:
    """Return the package URL of *package* in an image of *distribution* (purl specification, types deb, npm, pypi).

    A Debian package names its distribution and, as scanners for vulnerabilities expect it, its source package.
    """
    qualifiers = {}
    namespace: str | None = None
    name = package.name
    if package.kind is PackageKind.DEB:
        namespace = distribution.id or "debian"
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if distribution.version:
            qualifiers["distro"] = f"{namespace}-{distribution.version}"
        if package.source:
            qualifiers["upstream"] = package.source.replace(" ", "@")
    elif package.kind is PackageKind.NPM and "/" in name:
        namespace, _, name = name.partition("/")
    url = PackageURL(package.kind.value, namespace, name, package.version, qualifiers or None)
    return str(url.to_string())


def normalised(name: str) -> str:
    """Return a Python distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()
