"""Disks as OCI artifacts: a manifest that speaks of an image (its ``subject``) and has the disk as blobs.

The config is ``disk.json``, which says what the disk is; the layers are the whole disk, compressed by zstd, and the
kernel and the initrd that are inside its unified kernel image too, for who boots without firmware. Each names the
file that a tool writes it to. The same disk gives the same manifest, so its digest is the disk's name.
Source: OCI image specification 1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stelae.domain.artifact import Disk
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import GIB
from stelae.images.layout import MANIFEST

ARTIFACT = "application/vnd.stelae.disk.v1"
CONFIG = "application/vnd.stelae.disk.config.v1+json"
RAW = "application/vnd.stelae.disk.raw.v1+zstd"
KERNEL = "application/vnd.stelae.disk.kernel.v1"
INITRD = "application/vnd.stelae.disk.initrd.v1"

FORM = 1
"""The form of ``disk.json``."""

MAX_RAW = 32 * GIB
"""The largest disk that is taken, in bytes."""

_TITLE = "org.opencontainers.image.title"
_TITLES = {RAW: "disk.raw.zst", KERNEL: "kernel", INITRD: "initrd"}
_ROOT_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob of the artifact: its digest, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a disk is, as ``disk.json`` says it, and the blobs that hold it.

    ``image`` is the digest and size of the image's manifest, ``app`` whose it is; ``raw`` the whole disk as it is
    written to a machine's, ``compressed`` the same by zstd; ``release`` the kernel's name for itself; ``packages``
    the digest of the list of packages that it was made of besides the image; ``format`` that of the bytes.
    """

    image: Blob
    app: str
    architecture: str
    format: int
    packages: Digest
    raw: Blob
    compressed: Blob
    kernel: Blob
    initrd: Blob
    uki: Digest
    root_hash: str
    release: str
    cmdline: str

    @property
    def config(self) -> bytes:
        """The bytes of ``disk.json``."""
        return canonical(
            {
                "form": FORM, "format": self.format, "app": self.app, "architecture": self.architecture,
                "image": {"digest": self.image.digest, "size": self.image.size}, "packages": self.packages,
                "raw": {"digest": self.raw.digest, "size": self.raw.size}, "root_hash": self.root_hash,
                "uki": self.uki, "kernel": {"digest": self.kernel.digest, "release": self.release},
                "initrd": {"digest": self.initrd.digest}, "cmdline": self.cmdline,
            }
        )  # fmt: skip

    @property
    def manifest(self) -> bytes:
        """The bytes of the manifest, by whose digest the disk is named."""
        config = self.config
        blobs = {RAW: self.compressed, KERNEL: self.kernel, INITRD: self.initrd}
        return canonical(
            {
                "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": ARTIFACT,
                "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
                "layers": [
                    {"mediaType": kind, "digest": blob.digest, "size": blob.size,
                     "annotations": {_TITLE: _TITLES[kind]}}
                    for kind, blob in blobs.items()
                ],
                "subject": {"mediaType": MANIFEST, "digest": self.image.digest, "size": self.image.size},
            }
        )  # fmt: skip

    @property
    def disk(self) -> Disk:
        """The disk, by the digest of the manifest."""
        return Disk(
            digest=digest_of(self.manifest), image=self.image.digest, raw=self.raw.digest, size=self.raw.size,
            root_hash=self.root_hash, uki=self.uki, kernel=self.release,
        )  # fmt: skip


def is_disk(manifest: Mapping[str, Any]) -> bool:
    """Say whether a manifest, or what a list of referrers says of one, is that of a disk."""
    return manifest.get("artifactType") == ARTIFACT


def parse(manifest: bytes, config: bytes) -> Form:
    """Return the disk whose manifest and config these are; raises Failed, naming the manifest's digest, when they are
    not those of a disk that this Stelae would have written just so."""
    name = digest_of(manifest)
    try:
        document, said = json.loads(manifest), json.loads(config)
        if not is_disk(document) or said["form"] != FORM:
            raise ValueError("another type, or a newer form")
        found = _form(document, said)
        if (found.manifest, found.config) != (manifest, config):
            raise ValueError("it says more, or the same in another way")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
        raise Failed(
            f"{name} is not the manifest of a disk: {error}",
            hint="make the disk again: stelae build --artifact disk",
        ) from error
    return found


def _form(document: Any, said: Any) -> Form:
    layers = {item["mediaType"]: Blob(digest=_digest(item), size=_size(item)) for item in document["layers"]}
    raw = Blob(digest=_digest(said["raw"]), size=_size(said["raw"]))
    if raw.size > MAX_RAW or layers[KERNEL].digest != said["kernel"]["digest"]:
        raise ValueError("sizes or digests that do not fit each other")
    if layers[INITRD].digest != said["initrd"]["digest"] or not _ROOT_HASH.fullmatch(said["root_hash"]):
        raise ValueError("digests that do not fit each other")
    return Form(
        image=Blob(digest=_digest(said["image"]), size=_size(said["image"])), app=_text(said["app"]),
        architecture=_text(said["architecture"]), format=_size({"size": said["format"]}),
        packages=_digest({"digest": said["packages"]}), raw=raw, compressed=layers[RAW], kernel=layers[KERNEL],
        initrd=layers[INITRD], uki=_digest({"digest": said["uki"]}), root_hash=said["root_hash"],
        release=_text(said["kernel"]["release"]), cmdline=_text(said["cmdline"]),
    )  # fmt: skip


def _digest(item: Any) -> Digest:
    return parse_digest(str(item["digest"]))


def _size(item: Any) -> int:
    size = item["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"not a size: {size!r}")
    return size


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ValueError("not a short text")
    return value
