"""Garbage collection of disks: those of the store that are no roots, and those that are unpacked and not used.

A disk is large, and can be made again of its image: it is not kept because its image is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.domain.units import Instant
from stelae.images import disks, referrers
from stelae.images.layout import Layout
from stelae.images.rubbish import GONE, Found, Removed, Rubbish, What, is_old, leftovers, owned, thing

_HEX = "[0-9a-f]{64}"


def listed(layout: Layout) -> Iterator[tuple[Digest, Digest]]:
    """Yield each image that has disks, and each of its disks; raises Failed when a list is broken."""
    for path, ours in owned(disks.lists(layout), files=rf"{_HEX}\.json"):
        if ours:
            image = Digest(f"sha256:{path.stem}")
            for digest in disks.listed(layout, image):
                yield image, digest


def find(layout: Layout, kept: Collection[Digest], before: Instant) -> Found:
    """Return the disks that are not *kept* and old; they are to be removed before their images."""
    found = Found()
    for image, digest in listed(layout):
        path = layout.blob_path(digest)
        if digest not in kept and (not path.exists() or is_old(path, before)):
            reason = "no environment can return to it, and it was not made lately"
            removed = Removed(what=What.DISK, name=digest, size=0, reason=reason)
            found.rubbish.append(Rubbish(removed, partial(_forget, layout, image, digest)))
    found.foreign += [path for path, ours in owned(disks.lists(layout), files=rf"{_HEX}\.json") if not ours]
    return found


def young(layout: Layout, kept: Collection[Digest], before: Instant) -> frozenset[Digest]:
    """Return the blobs of disks that are too young to go, however old the blobs are."""
    found: set[Digest] = set()
    for _, digest in listed(layout):
        path = layout.blob_path(digest)
        if digest not in kept and path.exists() and not is_old(path, before):
            # One that nobody needs and that cannot be read must not stop the collection.
            with suppress(StelaeError):
                found |= layout.blobs_of(digest)
                found |= referrers.blobs_of(layout, digest)
    return frozenset(found)


def find_unpacked(folder: Path, kept: Collection[Digest], before: Instant) -> Found:
    """Return what nobody needs in the *folder* of disks that are unpacked: those that are neither *kept* nor used
    since *before*."""
    found = Found()
    for path, ours in owned(folder, folders=_HEX):
        if not ours:
            found.foreign.append(path)
        elif Digest(f"sha256:{path.name}") not in kept and is_old(path, before):
            found.rubbish.append(thing(path, What.CACHE, "its disk is needed by nobody"))
    found.rubbish += leftovers(folder, disks.MAKING, before)
    found.rubbish += leftovers(folder, GONE, before)
    return found


def _forget(layout: Layout, image: Digest, digest: Digest) -> None:
    # What speaks of the disk first: made again, it must not find a list of signatures that are gone.
    referrers.forget(layout, digest)
    disks.forget(layout, image, digest)
