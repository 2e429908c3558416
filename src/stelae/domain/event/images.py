"""Events of images: built, signed, sent and taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest
from stelae.domain.event.base import Event, known
from stelae.domain.image import Image, Source


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBuilt(Event):
    """A source became an image (perhaps one that existed already: the same content, the same digest)."""

    kind: ClassVar[str] = "image.built"
    image: Image
    source: Source
    lock: str = ""
    format: int = 1


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DiskBuilt(Event):
    """An image became a disk, perhaps one that existed already. ``lock`` is the digest of the lock whose packages it
    was made of, ``format`` that of disks."""

    kind: ClassVar[str] = "disk.built"
    disk: Disk
    commit: str
    lock: str = ""
    format: int = 1


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageImported(Event):
    """An image was taken from the registry's *name* (``HOST/PATH``), as *tag* ("" by its digest). ``keys`` are those
    whose signatures of it were verified."""

    kind: ClassVar[str] = "image.imported"
    image: Image
    name: str
    tag: str = ""
    keys: tuple[str, ...] = ()


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DiskImported(Event):
    """A disk was taken, with its image, from the registry's *name* (``HOST/PATH``). ``keys`` are those whose
    signatures of it were verified."""

    kind: ClassVar[str] = "disk.imported"
    disk: Disk
    name: str
    keys: tuple[str, ...] = ()


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePushed(Event):
    """An image, or a disk, was sent to a registry's *name* (``HOST/PATH``), as *tag* ("" by its digest only)."""

    kind: ClassVar[str] = "image.pushed"
    image: Digest
    name: str
    tag: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAttested(Event):
    """A key signed an image that was built from *commit*, how it was built and what is inside. ``statements`` are
    the digests of what was signed, by the type of the statement."""

    kind: ClassVar[str] = "image.attested"
    image: Digest
    key: str
    commit: str
    statements: Mapping[str, str] = field(default_factory=dict)


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailed(Event):
    """A build did not give an image."""

    kind: ClassVar[str] = "image.failed"
    source: Source
    reason: str
