"""Garbage collection of the image store: what no root reaches, and what a crash left unfinished.

Roots are digests of images (manifests) and of single blobs, as the record and the builder's cache know them. Only
names that the store itself makes are ever removed. Nothing younger than ``min_age`` goes, because a build adds blobs
first and names the image last; and nothing that is mounted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.domain.units import HOUR, Duration, Instant
from stelae.images import disk_gc, referrers
from stelae.images.blobs import ADDING, MAX_DOCUMENT
from stelae.images.disk import locked
from stelae.images.erofs import MAKING, discard_layer, layer_path
from stelae.images.layout import Layout, is_manifest
from stelae.images.loop import backing_file
from stelae.images.rubbish import Found, Removed, Rubbish, What, is_old, leftovers, owned, thing
from stelae.images.transfer import IMPORT
from stelae.system.clock import now
from stelae.system.mount import mounts_below

_HEX = "[0-9a-f]{64}"
_NEEDLESS = "no environment can return to it, and nothing was built of it lately"


@contextmanager
def alone(layout: Layout, layers: Path) -> Iterator[None]:
    """Nothing is added to the store inside, and nothing is mounted."""
    with layout.locked(), locked(layers):
        yield


def collect(
    layout: Layout, layers: Path, roots: Collection[Digest], *, dry_run: bool = False, min_age: Duration = HOUR
) -> list[Removed]:
    """Remove what *roots* do not reach and return it; with *dry_run* only return it. See ``find``."""
    with alone(layout, layers):
        found = find(layout, layers, roots, min_age=min_age)
        for item in () if dry_run else found.rubbish:
            item.remove()
    return [item.removed for item in found.rubbish]


def find(layout: Layout, layers: Path, roots: Collection[Digest], *, min_age: Duration = HOUR) -> Found:
    """Return what *roots* do not reach; the caller is ``alone`` in the store until it is removed.

    *min_age* is in microseconds. Raises Failed when the manifest or the config of a root cannot be read: what it
    needs would be unknown. It is to be removed in this order: a crash in the middle leaves files without a name,
    never a name without its files.
    """
    before = now() - min_age
    kept = reached(layout, roots)
    found = disk_gc.find(layout, kept, before)
    found.rubbish += _images(layout, kept, before)
    found.add(_signatures(layout, before))
    found.add(_blobs(layout, kept, before))
    found.add(_layers(layers, kept, before))
    for folder, prefix in ((layout.blobs.folder, ADDING), (layout.folder, IMPORT), (layers, MAKING)):
        found.rubbish += leftovers(folder, prefix, before)
    return found


def reached(layout: Layout, roots: Collection[Digest]) -> frozenset[Digest]:
    """Return all blobs that *roots* are and need; raises as ``find``."""
    kept: set[Digest] = set(roots)
    named = {entry.digest for entry in layout.images()}
    for root in roots:
        path = layout.blob_path(root)
        # What is larger is a layer.
        small = path.is_file() and path.stat().st_size <= MAX_DOCUMENT
        if root in named or (small and is_manifest(layout.blobs.read(root))):
            kept |= layout.blobs_of(root) | referrers.blobs_of(layout, root)
    return frozenset(kept)


def _images(layout: Layout, kept: frozenset[Digest], before: Instant) -> Iterator[Rubbish]:
    for entry in layout.images():
        path = layout.blob_path(entry.digest)
        if entry.digest not in kept and (not path.exists() or is_old(path, before)):
            removed = Removed(what=What.IMAGE, name=entry.digest, size=0, reason=_NEEDLESS)
            yield Rubbish(removed, partial(_forget, layout, entry.digest))


def _forget(layout: Layout, image: Digest) -> None:
    # What speaks of the image first: made again, it must not find a list of signatures that are gone.
    referrers.forget(layout, image)
    layout.forget(image)


def _signatures(layout: Layout, before: Instant) -> Found:
    """Return the lists of what speaks of images and disks that are not here, which a crash can leave."""
    found, named = Found(), {entry.digest for entry in layout.images()}
    named.update(disk for _, disk in disk_gc.listed(layout))
    for path, ours in owned(referrers.folder(layout), files=rf"{_HEX}\.json"):
        if not ours:
            found.foreign.append(path)
        elif Digest(f"sha256:{path.stem}") not in named and is_old(path, before):
            found.rubbish.append(thing(path, What.LEFTOVER, "the image that it speaks of is not here"))
    return found


def _blobs(layout: Layout, kept: frozenset[Digest], before: Instant) -> Found:
    found, young = Found(), _young(layout, kept, before) | disk_gc.young(layout, kept, before)
    for path, ours in owned(layout.blobs.folder, files=_HEX):
        digest = Digest(f"sha256:{path.name}")
        if not ours:
            found.foreign.append(path)
        elif digest not in kept and digest not in young and is_old(path, before):
            found.rubbish.append(thing(path, What.BLOB, "no image has it", name=digest))
    return found


def _young(layout: Layout, kept: frozenset[Digest], before: Instant) -> frozenset[Digest]:
    """Return the blobs of images that are too young to go, however old the blobs are."""
    young: set[Digest] = set()
    for entry in layout.images():
        path = layout.blob_path(entry.digest)
        if entry.digest not in kept and path.exists() and not is_old(path, before):
            # An image that nobody needs and that cannot be read must not stop the collection.
            with suppress(StelaeError):
                young |= layout.blobs_of(entry.digest)
                young |= referrers.blobs_of(layout, entry.digest)
    return frozenset(young)


def _layers(layers: Path, kept: frozenset[Digest], before: Instant) -> Found:
    found, mounted = Found(), _mounted_files()
    for path, ours in owned(layers, files=rf"{_HEX}\.erofs(\.sha256)?"):
        digest = Digest(f"sha256:{path.name[:64]}")
        if not ours:
            found.foreign.append(path)
        elif path.suffix == ".sha256":
            if not layer_path(layers, digest).exists() and is_old(path, before):
                found.rubbish.append(thing(path, What.LEFTOVER, "its layer is gone"))
        elif path not in mounted and path.resolve() not in mounted and digest not in kept and _unwanted(path, before):
            removed = Removed(what=What.LAYER, name=digest, size=path.stat().st_size, reason="no image has it")
            found.rubbish.append(Rubbish(removed, partial(discard_layer, layers, digest)))
    return found


def _unwanted(path: Path, before: Instant) -> bool:
    """True for a layer that is old, and whose record says that nobody asked for it lately."""
    record = path.with_name(f"{path.name}.sha256")
    return is_old(path, before) and (not record.exists() or is_old(record, before))


def _mounted_files() -> frozenset[Path]:
    """Return the files that are mounted as EROFS anywhere in this mount namespace, directly or by a loop device."""
    sources = [item.source for item in mounts_below(Path("/")) if item.kind == "erofs"]
    return frozenset(Path(backing_file(source) if source.startswith("/dev/loop") else source) for source in sources)
