"""The shapes of answers about what is handed to tools outside: digests, places and origin of images and disks."""

from __future__ import annotations

from typing import TypedDict

from stelae.controller.shapes.common import Count, Digest, Size, Time
from stelae.controller.shapes.proofs import BuiltFrom


class Place(TypedDict):
    """Where something was sent: ``name`` is HOST/PATH@DIGEST. It is what the record says; no registry is asked."""

    name: str
    tag: str
    at: Time


class Attestation(TypedDict):
    """A statement whose signature was verified just now: the digest of the manifest that carries it, by which a
    registry has it, and the key."""

    digest: Digest
    key: str


class ExportedDisk(TypedDict):
    """A disk, by the digest of its manifest. ``raw`` and ``size`` are of the whole disk as machines get it,
    ``compressed`` and ``compressed_size`` of the blob that holds it (zstd); ``places`` are the newest first."""

    digest: Digest
    raw: Digest
    size: Size
    compressed: Digest
    compressed_size: Size
    root_hash: str
    uki: Digest
    kernel: str
    architecture: str
    format: Count
    places: list[Place]
    signature: Attestation
    provenance: Attestation


class Exported(TypedDict):
    """An image, the disk that was made of it if any, and where both come from: all of it was verified just now.
    ``environment`` and ``release`` are empty where what was asked for is neither."""

    app: str
    environment: str
    release: str
    image: Digest
    size: Size
    places: list[Place]
    signature: Attestation
    provenance: Attestation
    sbom: Attestation | None
    built: BuiltFrom | None
    disk: ExportedDisk | None


class DiskSent(TypedDict):
    """What the pieces of a disk together are: a file of zstd, and what it holds."""

    disk: Digest
    compressed: Digest
    bytes: Size
    raw: Digest
    size: Size
