"""Images and what speaks of them (signatures, attestations), to a registry and from it, with their digests.

An image comes into a layout of its own first, where it can be looked at before the store takes it. What a copy that
was broken off has brought stays there for the next try.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, parse_digest
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.images import referrers
from stelae.images.blobs import Blobs
from stelae.images.disk_manifest import is_disk
from stelae.images.distribution import Repository
from stelae.images.layout import INDEX, MANIFEST, Layout, descriptors
from stelae.images.referrers import MAX_BLOB, Referrer
from stelae.images.registry import Access, Place, fetch, resolve, send

MOST_REFERRERS = 1_000

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How many referrers were sent, and whether the registry lists them by itself (or by a tag, which we wrote)."""

    referrers: int
    listed: bool


def push(layout: Layout, digest: Digest, place: Place, access: Access, work: Path, progress: Progress) -> Sent:
    """Send the image *digest* of *layout* with all that speaks of it; *work* is a new folder for what that needs.

    Raises Failed when the registry does not let us in, Unreachable when it does not answer.
    """
    items = referrers.of(layout, digest)
    manifest = layout.blobs.read(digest)
    progress(f"sending {len(descriptors(json.loads(manifest))) - 1} layers to {place}")
    _alone(layout, digest, manifest, work)
    send(work, place, access)
    return _send_referrers(digest, items, Repository(place.name, access), progress)


def _send_referrers(subject: Digest, items: list[Referrer], target: Repository, progress: Progress) -> Sent:
    if not items:
        return Sent(referrers=0, listed=True)
    progress(f"sending {len(items)} signatures and attestations")
    unlisted = []
    for item in items:
        for data in item.blobs.values():
            target.put_blob(data)
        answer = target.put_manifest(item.manifest, MANIFEST)
        # Without this header the registry takes no notice of the subject: we keep the list. Source: distribution
        # specification, "Pushing Manifests with Subject".
        if "oci-subject" not in answer.headers:
            unlisted.append(item)
    if unlisted:
        target.put_tagged(subject, [referrers.descriptor(item) for item in unlisted])
    return Sent(referrers=len(items), listed=not unlisted)


def pull(place: Place, access: Access, folder: Path, store: Layout, progress: Progress) -> tuple[Layout, Digest]:
    """Bring the image of *place* with all that speaks of it into the layout *folder*, where a try that was broken off
    may have left a part; blobs that *store* has are not fetched. Returns the layout and the image's digest.

    Raises InvalidInput when the registry does not have it or what comes is not what was asked for, Failed when it
    does not let us in, Unreachable when it does not answer.
    """
    digest = place.digest or resolve(place.asked, access)
    exact = Place(name=place.name, digest=digest)
    source = Repository(place.name, access)
    seed(source, digest, folder, store)
    progress(f"fetching {exact}")
    fetch(exact, folder, access, exactly=True)
    layout = Layout.open(folder)
    entries = [entry for entry in layout.images() if entry.digest == digest]
    if len(entries) != 1:
        raise InvalidInput(f"{exact} is not one image", hint="an index of several images: name one by its digest")
    found = fetched_referrers(source, digest)
    if found:
        progress(f"fetched {len(found)} signatures and attestations")
    referrers.add(layout, digest, found)
    return layout, digest


def take(layout: Layout, digest: Digest, store: Layout, name: str) -> None:
    """Take the image *digest* of *layout*, and all that speaks of it, into *store*."""
    items = referrers.of(layout, digest)
    if store.import_archive(layout.folder, name=name) != digest:
        raise Failed(f"{digest} came out as another image")
    referrers.add(store, digest, items)


def fetched_referrers(source: Repository, subject: Digest) -> list[Referrer]:
    """Return what speaks of *subject* in a registry, but for disks, which are large; raises as ``pull``."""
    listed = [item for item in _listed(source, subject) if not is_disk(item)]
    return [_referrer(source, subject, parse_digest(item["digest"])) for item in listed]


def _listed(source: Repository, subject: Digest) -> list[dict[str, str]]:
    entries = source.referrers(subject)
    if len(entries) > MOST_REFERRERS:
        raise InvalidInput(f"{len(entries)} manifests speak of {subject}: more than {MOST_REFERRERS}")
    return entries


def _referrer(source: Repository, subject: Digest, digest: Digest) -> Referrer:
    manifest = source.manifest(digest)
    try:
        document = json.loads(manifest)
        about = document["subject"]["digest"]
        named = [parse_digest(item["digest"]) for item in (document["config"], *document["layers"])]
    except (ValueError, KeyError, TypeError, RecursionError, StelaeError) as error:
        raise InvalidInput(f"{digest}, which should speak of {subject}, is damaged") from error
    if about != subject:
        raise InvalidInput(f"{digest} is listed as speaking of {subject}, and speaks of another image")
    return Referrer(manifest=manifest, blobs={item: source.blob(item, MAX_BLOB) for item in named})


def _alone(layout: Layout, digest: Digest, manifest: bytes, folder: Path) -> None:
    """Make *folder* a layout of one image, whose blobs are those of *layout*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blobs").symlink_to(layout.folder / "blobs")
    entry = {"mediaType": MANIFEST, "digest": digest, "size": len(manifest)}
    (folder / "index.json").write_bytes(canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    (folder / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))


def seed(source: Repository, digest: Digest, folder: Path, store: Layout) -> None:
    """Put the blobs of an image, or a disk, that *store* has into the layout *folder*: they need not be fetched."""
    blobs = Blobs(folder / "blobs" / "sha256")
    blobs.folder.mkdir(parents=True, exist_ok=True)
    try:
        items = descriptors(json.loads(source.manifest(digest)))
    except (InvalidInput, ValueError):
        return  # skopeo says what is wrong with it
    for item in items:
        if store.has(item.digest) and not blobs.path(item.digest).exists():
            try:
                os.link(store.blob_path(item.digest), blobs.path(item.digest))
            except OSError:
                shutil.copy(store.blob_path(item.digest), blobs.path(item.digest))
