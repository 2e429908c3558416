"""Disks to a registry and from it: artifacts that speak of an image, each with what speaks of it itself.

A registry lists them among the referrers of their image; ``oras`` and ``skopeo copy --preserve-digests`` take them by
their digests.
"""

from __future__ import annotations

from pathlib import Path

from stelae.domain.digest import Digest, parse_digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import referrers
from stelae.images.disk_manifest import ARTIFACT, Form, is_disk
from stelae.images.disks import Disks
from stelae.images.distribution import Repository
from stelae.images.exchange import Progress, Sent, fetched_referrers, push, seed
from stelae.images.layout import MANIFEST, Layout
from stelae.images.registry import Access, Place, fetch

MOST = 20
"""So many disks of one image are taken."""


def push_disk(
    disks: Disks, digest: Digest, place: Place, access: Access, work: Path, progress: Progress
) -> Sent:  # fmt: skip
    """Send the disk *digest* with all that speaks of it to where its image is, and have it listed there; raises as
    ``push``."""
    form = disks.form(digest)
    exact = Place(name=place.name, digest=digest)
    sent = push(disks.layout, digest, exact, access, work, progress)
    target = Repository(place.name, access)
    # A registry that takes notice of the subject lists the disk by now; for another we keep the list.
    if digest not in {item.get("digest") for item in target.referrers(form.image.digest)}:
        entry = {"mediaType": MANIFEST, "artifactType": ARTIFACT, "digest": digest, "size": len(form.manifest)}
        target.put_tagged(form.image.digest, [entry])
    return sent


def pull_disks(
    name: str, image: Digest, access: Access, folder: Path, store: Disks, progress: Progress
) -> tuple[Layout, tuple[Form, ...]]:  # fmt: skip
    """Bring the disks of *image* that the repository *name* lists, with all that speaks of them, into the layout
    *folder*; what is there, or in *store*, is not fetched. Raises as ``pull``."""
    source = Repository(name, access)
    found = [parse_digest(str(item.get("digest"))) for item in source.referrers(image) if is_disk(item)]
    if len(found) > MOST:
        raise InvalidInput(f"{name} has {len(found)} disks of {image}: more than {MOST}")
    layout = Layout.open(folder)
    forms = []
    for digest in found:
        exact = Place(name=name, digest=digest)
        seed(source, digest, folder, store.layout)
        progress(f"fetching {exact}")
        fetch(exact, folder, access, exactly=True)
        form = Disks(layout, folder).form(digest)
        if form.image.digest != image:
            raise InvalidInput(f"{digest} is listed as a disk of {image}, and is of another image")
        referrers.add(layout, digest, fetched_referrers(source, digest))
        forms.append(form)
    return layout, tuple(forms)


def take_disk(layout: Layout, form: Form, store: Disks) -> None:
    """Take the disk *form* of *layout*, and all that speaks of it, into *store*; raises Failed for a damaged blob."""
    with store.layout.locked(shared=True):
        for blob in (form.compressed, form.kernel, form.initrd):
            if store.layout.blobs.add(layout.blob_path(blob.digest)) != blob.digest:
                raise Failed(f"{blob.digest} of the disk came out as another blob")
    disk = store.add(form)
    referrers.add(store.layout, disk.digest, referrers.of(layout, disk.digest))
