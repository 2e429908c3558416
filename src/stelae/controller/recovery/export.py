"""The record as one archive that anybody can check: the published log, and what is signed of its images.

The same checkpoint gives the same bytes. The log is made of the leaves while it is written, bundle after bundle with
the tiles that each fills, so a checker compares them as they come and neither side holds more than a bundle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from stelae.controller.recovery.readme import readme
from stelae.core.merkle import leaf_hash
from stelae.core.tiles import ENTRIES, Edge, bundle, tiles_of
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed
from stelae.images import referrers
from stelae.images.content import Slice, chunks
from stelae.images.layout import INDEX, MANIFEST, Layout, descriptors
from stelae.images.pack import Member, member
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.codec import HeldBody, read_envelope
from stelae.ledger.note import Verifier
from stelae.ledger.published import INQUIRY
from stelae.ledger.store import Ledger

README, KEY, CHECKPOINT = "README.txt", "log.vkey", "checkpoint"
EVIDENCE = "evidence"
HELD = "held/sha256"

_HELD = b'"held":{'
"""In each leaf whose body is held beside the record, and in few others."""


def log_members(ledger: Ledger, signed: bytes, verifier: Verifier) -> Iterator[Member]:
    """Yield the files of the log of *ledger* up to the checkpoint *signed*, which *verifier* signed.

    Raises Failed, in the end, when the record is not what was signed: the archive is worth nothing then.
    """
    checkpoint = open_checkpoint(signed, verifier)
    text = readme(checkpoint.origin, checkpoint.size, checkpoint.root.hex(), verifier.vkey)
    yield member(README, text)
    yield member(KEY, f"{verifier.vkey}\n".encode())
    yield member(CHECKPOINT, signed)
    edge, held = Edge(), dict[Digest, tuple[int, HeldBody]]()
    for tile in tiles_of(checkpoint.size):
        if tile.level != ENTRIES:
            break
        leaves = ledger.leaves(tile.first, tile.first + tile.width)
        yield member(tile.path, bundle(leaves))
        held |= held_by(tile.first, leaves)
        for leaf in leaves:
            for made, data in edge.append(leaf_hash(leaf)):
                yield member(made.path, data)
    for made, data in edge.partial():
        yield member(made.path, data)
    if edge.root() != checkpoint.root:
        raise Failed(
            f"the record's first {checkpoint.size} events are not those of the checkpoint", where=checkpoint.origin,
            hint=f"stelae audit verify names the event; {INQUIRY}",
        )  # fmt: skip
    for digest, (index, body) in sorted(held.items()):
        yield member(f"{HELD}/{hex_of(digest)}", ledger.held.read(index, body))


def held_by(first: int, leaves: Sequence[bytes]) -> dict[Digest, tuple[int, HeldBody]]:
    """Return the bodies that are held beside *leaves*, the first of which has index *first*: by digest the index of
    an event that needs it, and its size. Raises Failed for a leaf that cannot be read."""
    found = {}
    for index, leaf in enumerate(leaves, first):
        if _HELD in leaf:  # most have none, and are not read
            body = read_envelope(index, leaf).held
            if body is not None:
                found[body.digest] = (index, body)
    return found


def evidence_members(layout: Layout, images: Collection[Digest]) -> Iterator[Member]:
    """Yield what speaks of those of *images* that *layout* has: an OCI layout without layers, below ``evidence``."""
    named = {entry.digest: entry.size for entry in layout.images()}
    found = sorted(set(images) & named.keys())
    entries = [{"mediaType": MANIFEST, "digest": image, "size": named[image]} for image in found]
    yield member(f"{EVIDENCE}/oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    yield member(f"{EVIDENCE}/index.json", canonical(index))
    blobs: set[Digest] = set()
    for image in found:
        yield member(f"{EVIDENCE}/referrers/sha256/{hex_of(image)}.json", referrers.index(layout, image))
        blobs |= {image, descriptors(layout.manifest(image))[0].digest, *referrers.blobs_of(layout, image)}
    for blob in sorted(blobs):
        path = layout.blob_path(blob)
        size = path.stat().st_size
        yield Member(f"{EVIDENCE}/blobs/sha256/{hex_of(blob)}", size, chunks(Slice(path, 0, size)))
