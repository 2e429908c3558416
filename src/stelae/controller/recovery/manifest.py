"""What a backup says of itself: one JSON document that names everything in it by digest, and nothing by a path.

The record is its leaves, in bundles of 256 as they are published, so that of a record that has grown only the last
bundle is another one. Images, what speaks of them and secrets are blobs as well. What a restored machine needs to be
told beside that is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from stelae.core.tiles import WIDTH
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, parse_digest
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.units import Instant
from stelae.ledger.plain import UNREADABLE, plain

FORMAT = 2
"""Of a backup with disks; one without any is of format 1, which has no word for them."""

LARGEST = 256 << 20
"""The largest manifest that is read, in bytes."""

_FILE = re.compile(r"[0-9a-f]{32}")


class KeyForm(StrEnum):
    """How the private keys are in a backup."""

    SEALED = "sealed"  # to the recovery key
    PLAIN = "plain"
    NONE = "none"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record up to a signed checkpoint: its ``size`` and ``root`` (hexadecimal), the checkpoint as it was signed,
    the log's public key, the bundles of leaves in their order, and the bodies that are held beside them."""

    size: int
    root: str
    checkpoint: str
    key: str
    bundles: tuple[str, ...]
    held: tuple[str, ...] = ()


class BackedUpImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image: its digest, its name in the store, its blobs, and the list of what speaks of it ("": nothing)."""

    digest: str
    name: str
    blobs: tuple[str, ...]
    referrers: str = ""


class BackedUpDisk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disk: its digest, that of its image, its blobs, and the list of what speaks of it ("": nothing)."""

    digest: str
    image: str
    blobs: tuple[str, ...]
    referrers: str = ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A backup. ``blobs`` has the size of each thing in it by digest; ``lacking`` are images and disks that should be
    in it and were not in the store; ``secrets`` are files of encrypted values; ``keys`` is the blob with the private
    keys."""

    format: int
    made_at: Instant
    made_by: str
    stelae: str
    host: str
    installation: str
    record: Record
    images: tuple[BackedUpImage, ...]
    lacking: tuple[str, ...]
    secrets: Mapping[str, str]
    inputs: tuple[str, ...]
    key_form: KeyForm
    keys: str
    recipient: str
    blobs: Mapping[str, int]
    disks: tuple[BackedUpDisk, ...] = ()

    @property
    def encoded(self) -> bytes:
        """Return the document as canonical JSON."""
        return canonical(plain(self)) + b"\n"

    @property
    def name(self) -> str:
        """What a folder of several backups calls it: newer ones come later in the alphabet."""
        return f"{self.made_at:017}-{self.record.size}"

    @property
    def bytes(self) -> int:
        """How many bytes all that it names has."""
        return sum(self.blobs.values())


class _Version(msgspec.Struct):
    format: int


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest in *data*; raises InvalidInput when it is none, or names what is not in it, Failed when a
    newer Stelae wrote it."""
    try:
        version = msgspec.json.decode(data, type=_Version).format
    except UNREADABLE as error:
        raise InvalidInput("not a backup of Stelae", where=where) from error
    if version > FORMAT:
        raise Failed(
            f"a newer Stelae made this backup (format {version}, this one knows {FORMAT})", where=where,
            hint="install that version or a newer one",
        )  # fmt: skip
    try:
        found = msgspec.json.decode(data, type=Manifest)
        if version < 1:
            raise ValueError(f"there is no format {version}")
        _check(found)
    except (*UNREADABLE, StelaeError) as error:
        raise InvalidInput(f"the backup is damaged: {error}", where=where) from error
    return found


def _check(found: Manifest) -> None:
    """Raise ValueError or InvalidInput when something is named that is not a blob of it, or is no name."""
    if bool(found.keys) is (found.key_form is KeyForm.NONE):
        raise ValueError("it is not clear whether it has keys")
    named = [*found.record.bundles, *found.record.held, *found.secrets.values(), *found.inputs]
    items: tuple[BackedUpImage | BackedUpDisk, ...] = (*found.images, *found.disks)
    for item in items:
        named += [item.digest, *item.blobs, *([item.referrers] if item.referrers else [])]
    named += [found.keys] if found.keys else []
    for digest in (*named, *found.blobs):
        parse_digest(digest)
    unknown = set(named) - found.blobs.keys()
    if unknown:
        raise ValueError(f"it names {min(unknown)} and does not have it")
    needless = found.blobs.keys() - set(named)
    if needless:
        raise ValueError(f"it has {min(needless)}, which nothing needs")
    if any(size < 0 for size in found.blobs.values()):
        raise ValueError("a size below 0")
    if found.record.size < 1 or len(found.record.bundles) != -(-found.record.size // WIDTH):
        raise ValueError(f"{len(found.record.bundles)} bundles for {found.record.size} events")
    if not all(_FILE.fullmatch(name) for name in found.secrets):
        raise ValueError("a secret's file has a name that is none")


def digests(found: Manifest) -> list[Digest]:
    """Return the digests of all that is in it, in the order in which an archive has them."""
    return [Digest(digest) for digest in sorted(found.blobs)]
