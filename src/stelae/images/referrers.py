"""Referrers: manifests that speak of an image (signatures, attestations) and name it as their ``subject``.

Their blobs lie in the layout like all others. Which there are of an image is an OCI index in
``referrers/sha256/HEX.json`` beside ``index.json``, which names images only, so that no tool takes a signature for an
image. That index has the bytes that a registry keeps under the tag ``sha256-HEX`` when it has no referrers API.
Source: OCI image specification 1.1, manifest.md; OCI distribution specification 1.1, "Referrers Tag Schema".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.errors import Failed
from stelae.images.blobs import corrupted
from stelae.images.layout import INDEX, MANIFEST, Layout
from stelae.images.lists import entries, place, write

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
MAX_BLOB = 128 << 20
"""The largest attestation that is read, in bytes."""

_LISTED = "signatures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrer:
    """One manifest with a ``subject``, and its blobs (config and layers) by digest."""

    manifest: bytes
    blobs: Mapping[Digest, bytes]

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return digest_of(self.manifest)

    @property
    def document(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        found: dict[str, Any] = json.loads(self.manifest)
        return found

    @property
    def layer(self) -> bytes:
        """The content of its first layer: the signature or the attestation."""
        return self.blobs[Digest(self.document["layers"][0]["digest"])]


def referrer(
    subject: tuple[Digest, int], data: bytes, *, media_type: str, annotations: Mapping[str, str],
    config: tuple[str, bytes] = (EMPTY_TYPE, EMPTY), layer_annotations: Mapping[str, str] | None = None,
) -> Referrer:  # fmt: skip
    """Return a referrer of the image *subject* (digest and size of its manifest) that carries *data*."""
    config_type, config_data = config
    layer: dict[str, Any] = {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
    if layer_annotations:
        layer["annotations"] = dict(layer_annotations)
    manifest: dict[str, Any] = {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": config_type, "digest": digest_of(config_data), "size": len(config_data)},
        "layers": [layer],
        "subject": {"mediaType": MANIFEST, "digest": subject[0], "size": subject[1]},
    }  # fmt: skip
    if config_type == EMPTY_TYPE:
        manifest["artifactType"] = media_type
    if annotations:
        manifest["annotations"] = dict(annotations)
    return Referrer(manifest=canonical(manifest), blobs={digest_of(config_data): config_data, digest_of(data): data})


def add(layout: Layout, subject: Digest, referrers: list[Referrer]) -> None:
    """Store *referrers* of the image *subject*; one that is there already stays as it is."""
    with layout.locked():
        listed = entries(folder(layout), subject, _LISTED)
        known = {entry["digest"] for entry in listed}
        layout.blobs.add_all(data for item in referrers for data in (*item.blobs.values(), item.manifest))
        for item in referrers:
            if item.digest not in known:
                listed.append(descriptor(item))
        write(folder(layout), subject, listed)


def of(layout: Layout, subject: Digest) -> list[Referrer]:
    """Return the referrers of the image *subject*, oldest first.

    Raises Failed, naming the digest, when one of them is not whole.
    """
    return [_load(layout, digest) for digest in digests(layout, subject)]


def digests(layout: Layout, subject: Digest) -> list[Digest]:
    """Return the digests of the referrers' manifests, oldest first; raises Failed when their list is broken."""
    return [parse_digest(str(entry.get("digest"))) for entry in entries(folder(layout), subject, _LISTED)]


def index(layout: Layout, subject: Digest) -> bytes:
    """Return the OCI index that names the referrers of *subject*, as the tag ``sha256-HEX`` of a registry has it."""
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries(folder(layout), subject, _LISTED)})


def blobs_of(layout: Layout, subject: Digest) -> frozenset[Digest]:
    """Return every blob that the referrers of *subject* are made of, for garbage collection."""
    found: set[Digest] = set()
    for digest in digests(layout, subject):
        manifest = layout.manifest(digest)
        found |= {digest, *(parse_digest(item["digest"]) for item in (manifest["config"], *manifest["layers"]))}
    return frozenset(found)


def forget(layout: Layout, subject: Digest) -> None:
    """Take the list of referrers of *subject* away; garbage collection takes their blobs."""
    place(folder(layout), subject).unlink(missing_ok=True)


def _load(layout: Layout, digest: Digest) -> Referrer:
    manifest = layout.blobs.read(digest)
    document = layout.manifest(digest)
    try:
        named = [parse_digest(item["digest"]) for item in (document["config"], *document["layers"])]
    except (KeyError, TypeError) as error:
        raise Failed(f"{digest} is not the manifest of a referrer") from error
    return Referrer(manifest=manifest, blobs={item: _blob(layout, item) for item in named})


def _blob(layout: Layout, digest: Digest) -> bytes:
    path = layout.blob_path(digest)
    if not path.is_file():
        raise Failed(f"{digest} is not in the image store", hint="build the image again")
    if path.stat().st_size > MAX_BLOB:
        raise Failed(f"{digest} is larger than {MAX_BLOB} bytes: not an attestation")
    data = path.read_bytes()
    if digest_of(data) != digest:
        raise corrupted(digest, path)
    return data


def descriptor(item: Referrer) -> dict[str, Any]:
    """Return what a list of referrers says of *item*."""
    document = item.document
    entry = {
        "mediaType": MANIFEST, "digest": item.digest, "size": len(item.manifest),
        "artifactType": document.get("artifactType") or document["config"]["mediaType"],
    }  # fmt: skip
    if document.get("annotations"):
        entry["annotations"] = document["annotations"]
    return entry


def folder(layout: Layout) -> Path:
    """Return the folder of the lists of referrers, ``HEX.json`` for each image that has some."""
    return layout.folder / "referrers" / "sha256"
