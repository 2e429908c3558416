"""The shapes of answers about sources, builds, locks, images built again, and images that come and go."""

from __future__ import annotations

from typing import TypedDict

from stelae.controller.shapes.common import Count, Digest, OptionalDigest, Size


class Lacking(TypedDict):
    """The object ids that the controller lacks."""

    missing: list[str]


class Received(TypedDict):
    """How many objects came."""

    objects: Count


class BuiltLayer(TypedDict):
    """One layer of a build, and whether it was there already."""

    digest: Digest
    size: Size
    cached: bool
    name: str


class BuiltDisk(TypedDict):
    """A disk of an image, named by its digest; ``raw`` is that of the whole disk, of ``size`` bytes, ``kernel`` the
    kernel's release, ``created`` false when there was one of the same content."""

    disk: Digest
    created: bool
    raw: Digest
    size: Size
    root_hash: str
    kernel: str
    locked: bool
    seconds: float


class Built(TypedDict):
    """The image that a commit became, and the disk when one was asked for; ``created`` is false when there was one of
    the same content."""

    image: Digest
    app: str
    created: bool
    layers: list[BuiltLayer]
    seconds: float
    locked: bool
    disk: BuiltDisk | None


class Pushed(TypedDict):
    """What was sent: ``name`` is HOST/PATH@DIGEST, ``referrers`` the number of signatures and attestations,
    ``listed`` whether the registry lists them by itself (else the tag sha256-HEX does); ``disks`` were sent too."""

    image: Digest
    name: str
    tag: str
    referrers: Count
    listed: bool
    disks: list[Digest]


class Pulled(TypedDict):
    """What was taken: ``moved`` is what the tag was when it was taken last, if that was another image; ``keys`` are
    the known keys that signed it, ``strangers`` the number of signatures by others; ``disks`` were taken too."""

    image: Digest
    app: str
    name: str
    moved: OptionalDigest
    keys: list[str]
    strangers: Count
    disks: list[Digest]


class InputChange(TypedDict):
    """An input of a stage that is another one; a version is empty where it is not there."""

    stage: str
    kind: str
    name: str
    old: str
    new: str


class ArchiveChange(TypedDict):
    """The dates (ISO 8601) of the Debian archive that a stage was and is resolved from, and the days between."""

    stage: str
    old: str
    new: str
    days: int


class ChangedPath(TypedDict):
    """A path that came out otherwise, and how: a phrase for each property."""

    path: str
    how: list[str]


class ChangedLayer(TypedDict):
    """A layer that came out otherwise, how many paths differ, and the first of them."""

    name: str
    old: OptionalDigest
    new: OptionalDigest
    count: Count
    paths: list[ChangedPath]


class ReproducedDisk(TypedDict):
    """What making a disk again gave: the digest that ``disk`` was, and what came out; ``parts`` are those that
    differ, by their names, as far as the disk is still ``known``."""

    disk: Digest
    made: Digest
    known: bool
    parts: list[str]


class Reproduced(TypedDict):
    """What building again gave: ``equal`` when ``made`` is ``image``, and the disk the same where there is one.
    ``known`` is false when there is no image left to compare files with; ``config`` are the fields of the image's
    config that differ."""

    image: Digest
    made: Digest
    equal: bool
    known: bool
    layers: list[ChangedLayer]
    config: list[str]
    disk: ReproducedDisk | None
    seconds: float
    commit: str
    repository: str


class Locked(TypedDict):
    """The text of stelae.lock, and what it changes."""

    lock: str
    changes: list[InputChange]
    archives: list[ArchiveChange]
