"""Inputs: the files that an image is built from, besides the commit, each named by the digest of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.digest import Digest


class InputKind(StrEnum):
    """What sort of file an input is, and so how it is put into an image."""

    DEB = "deb"
    WHEEL = "wheel"
    NPM = "npm"
    IMAGE = "image"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Input:
    """One file that a build takes: a Debian package, a wheel, an npm tarball, or the manifest of a base image.

    ``name`` and ``version`` are as its own ecosystem writes them (a wheel's name is normalised as PEP 503 says);
    ``architecture`` is Debian's word for packages, empty elsewhere; ``file`` is the file's name (for npm the place
    in the tree, because one package may be there in several versions); ``digest`` is the SHA-256 of its bytes.
    """

    kind: InputKind
    name: str
    version: str
    digest: Digest
    architecture: str = ""
    file: str = ""
