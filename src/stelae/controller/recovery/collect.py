"""What belongs into a backup, found while the controller works: nothing is stopped, and the record is not held.

The record is taken up to a checkpoint that was signed, and what else is needed is what the record said then: so the
parts fit together at one size, whatever is recorded meanwhile. Images are held against garbage collection by the
caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stelae.controller.recovery import sealed
from stelae.controller.recovery.manifest import BackedUpDisk, BackedUpImage, KeyForm, Record
from stelae.core import fold
from stelae.core.merkle import leaf_hash
from stelae.core.retention import image_roots
from stelae.core.tiles import ENTRIES, Edge, Tile, bundle, tiles_of
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed
from stelae.domain.state import InstallationState
from stelae.domain.units import Instant
from stelae.images import referrers
from stelae.images.blobs import Blobs
from stelae.images.content import Content, Slice, chunks
from stelae.images.disks import listed as listed_disks
from stelae.images.layout import Layout
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.codec import HeldBody, decode
from stelae.ledger.note import Verifier
from stelae.ledger.published import INQUIRY
from stelae.ledger.snapshot import Snapshot
from stelae.system.installation import Installation


@dataclass(slots=True)
class Found:
    """Where the content of each blob of a backup is: a file, bytes, or a tile of leaves that is read again."""

    contents: dict[Digest, Content | Tile] = field(default_factory=dict)
    sizes: dict[Digest, int] = field(default_factory=dict)

    def add(self, data: bytes) -> Digest:
        """Take *data* itself, and return its digest."""
        digest = digest_of(data)
        self.contents[digest], self.sizes[digest] = data, len(data)
        return digest

    def add_file(self, digest: Digest, path: Path) -> None:
        """Take the file at *path*, whose digest should be *digest*."""
        size = path.stat().st_size
        self.contents[digest], self.sizes[digest] = Slice(path, 0, size), size

    def content(self, digest: Digest, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the content in pieces, which nobody has compared with *digest*."""
        found = self.contents[digest]
        if isinstance(found, Tile):
            yield bundle(snapshot.leaves(found.first, found.first + found.width))
        else:
            yield from chunks(found)


def record(snapshot: Snapshot, signed: bytes, verifier: Verifier, found: Found) -> tuple[Record, InstallationState]:
    """Take the record up to the checkpoint *signed*; return it, and what was recorded then.

    Raises Failed when the events are not those that were signed.
    """
    checkpoint = open_checkpoint(signed, verifier)
    state, edge, bundles, held = InstallationState(), Edge(), [], set[Digest]()

    def take(index: int, body: HeldBody) -> bytes:
        data = snapshot.held.read(index, body)
        found.add_file(body.digest, snapshot.held.path(body.digest))
        held.add(body.digest)
        return data

    for tile in tiles_of(checkpoint.size):
        if tile.level != ENTRIES:
            break
        leaves = snapshot.leaves(tile.first, tile.first + tile.width)
        for leaf in leaves:
            edge.append(leaf_hash(leaf))
        events = [decode(tile.first + place, leaf, take) for place, leaf in enumerate(leaves)]
        state = fold.apply_all(state, events)
        data = bundle(leaves)
        digest = digest_of(data)
        found.contents[digest], found.sizes[digest] = tile, len(data)
        bundles.append(digest)
    if edge.root() != checkpoint.root:
        raise Failed(
            f"the record's first {checkpoint.size} events are not those that were signed; nothing was backed up",
            where=checkpoint.origin, hint=f"stelae audit verify names the event; {INQUIRY}",
        )  # fmt: skip
    made = Record(
        size=checkpoint.size, root=checkpoint.root.hex(), checkpoint=signed.decode(), key=verifier.vkey,
        bundles=tuple(bundles), held=tuple(sorted(held)),
    )  # fmt: skip
    return made, state


def images(
    layout: Layout, state: InstallationState, now: Instant, found: Found
) -> tuple[tuple[BackedUpImage, ...], tuple[str, ...]]:
    """Take every image that an environment runs, is moving to or can return to, with what speaks of it; return them,
    and those that are not in the store, whole."""
    names = {entry.digest: entry.name for entry in layout.images()}
    taken, lacking = [], []
    for image in sorted(_roots(state, now) - state.disks.keys()):
        if image not in names or not all(layout.blob_path(blob).is_file() for blob in layout.blobs_of(image)):
            lacking.append(image)
            continue
        blobs, listed = _taken(layout, image, found)
        taken.append(BackedUpImage(digest=image, name=names[image], blobs=blobs, referrers=listed))
    return tuple(taken), tuple(lacking)


def disks(
    layout: Layout, state: InstallationState, now: Instant, found: Found
) -> tuple[tuple[BackedUpDisk, ...], tuple[str, ...]]:
    """As ``images``, for the disks of which releases are."""
    taken, lacking = [], []
    for disk in sorted(_roots(state, now) & state.disks.keys()):
        image = state.disks[disk].disk.image
        whole = disk in listed_disks(layout, image) and layout.blob_path(disk).is_file()
        if not whole or not all(layout.blob_path(blob).is_file() for blob in layout.blobs_of(disk)):
            lacking.append(disk)
            continue
        blobs, listed = _taken(layout, disk, found)
        taken.append(BackedUpDisk(digest=disk, image=image, blobs=blobs, referrers=listed))
    return tuple(taken), tuple(lacking)


def _roots(state: InstallationState, now: Instant) -> frozenset[Digest]:
    return frozenset(digest for env in state.environments.values() for digest in image_roots(env, now))


def _taken(layout: Layout, digest: Digest, found: Found) -> tuple[tuple[str, ...], str]:
    """Take the blobs of an image or a disk and what speaks of it; return them, and the list of the latter."""
    own, speaking = layout.blobs_of(digest), referrers.blobs_of(layout, digest)
    for blob in own | speaking:
        found.add_file(blob, layout.blob_path(blob))
    listed = found.add(referrers.index(layout, digest)) if speaking else ""
    return tuple(sorted(own | speaking)), listed


def secrets(installation: Installation, state: InstallationState, found: Found) -> dict[str, str]:
    """Take the encrypted values of all versions of secrets that were not wiped; one that is gone by now is left."""
    taken = {}
    for env in state.environments.values():
        for versions in env.secrets.values():
            for version in versions:
                path = installation.secrets / version.file
                if not version.wiped and path.is_file() and not path.is_symlink():
                    taken[version.file] = str(found.add(path.read_bytes()))
    return taken


def keys(installation: Installation, form: KeyForm, recipient: str, found: Found) -> str:
    """Take the private keys in *form*; return the digest of what they are in, "" where that is nothing."""
    if form is KeyForm.NONE:
        return ""
    data = sealed.encode_keys(sealed.keys_in(installation.keys))
    return str(found.add(sealed.seal(data, recipient) if form is KeyForm.SEALED else data))


def inputs(installation: Installation, found: Found) -> tuple[str, ...]:
    """Take all that builds took from elsewhere, and the locks of built images."""
    blobs = Blobs(installation.inputs)
    taken = list(blobs.all()) if installation.inputs.is_dir() else []
    for digest in taken:
        found.add_file(digest, blobs.path(digest))
    return tuple(taken)


def missing_keys(secrets_taken: Mapping[str, str], found: Found, known: frozenset[bytes], head: int) -> int:
    """Count the secrets that are encrypted with none of the keys *known* by name; at *head* a file names its key."""
    count = 0
    for digest in secrets_taken.values():
        data = found.contents[Digest(digest)]
        assert isinstance(data, bytes)
        count += not any(data[head : head + len(name)] == name for name in known)
    return count
