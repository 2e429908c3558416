"""What an exported log brings of its images: signatures, provenance, SBOMs, checked by the keys that the log trusts.

They are too large for an event, so an event names them by digest (``image.attested``).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stelae.attest import checking, envelope
from stelae.attest.envelope import UntrustedError
from stelae.attest.keys import PublicKey
from stelae.controller.recovery.export import EVIDENCE
from stelae.core import fold
from stelae.core.tiles import unbundle
from stelae.domain.digest import Digest, digest_of, short
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import ImageAttested
from stelae.domain.state import InstallationState
from stelae.images import referrers
from stelae.images.blobs import MAX_DOCUMENT
from stelae.images.content import Slice, read
from stelae.images.layout import Layout
from stelae.images.pack import Pack
from stelae.images.referrers import MAX_BLOB
from stelae.ledger.codec import decode

_REFERRERS = re.compile(rf"{EVIDENCE}/referrers/sha256/([0-9a-f]{{64}})\.json")
_BLOB = re.compile(rf"{EVIDENCE}/blobs/sha256/([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found: ``signed`` are images of which something by a key of the record is there, ``unsigned`` those of
    which nothing is; ``absent`` are digests of statements of these images that events name and that are not there."""

    signed: tuple[Digest, ...] = ()
    unsigned: tuple[Digest, ...] = ()
    absent: tuple[str, ...] = ()


def check_evidence(
    pack: Pack, found: tuple[str, Slice], bundles: Sequence[Slice], held: Mapping[Digest, Slice]
) -> Evidence:
    """Check what is left of *pack* from its member *found* on, by the log whose leaves are in *bundles*, and the
    bodies beside them in *held*.

    Raises InvalidInput for what is no evidence, Failed for what was changed, or is of an image that no event names.
    """
    state, named = _told(bundles, held)
    with tempfile.TemporaryDirectory(prefix="stelae-evidence-") as folder:
        layout = Layout.open(Path(folder))
        lists = _laid_out(pack, found, layout)
        images = [entry.digest for entry in layout.images()]
        unknown = sorted(set(images) - state.images.keys()) or sorted(set(lists) - set(images))
        if unknown:
            raise Failed(f"evidence of {short(unknown[0])}, which no event of the log names")
        keys = {key.id: key.pem for key in state.keys.values()}
        revoked = {name: str(state.revoked[name]) for name in keys if name in state.revoked}
        signed: list[Digest] = []
        unsigned: list[Digest] = []
        absent: list[str] = []
        for image in images:
            proof = checking.check(layout, image, keys, revoked)
            if proof.problems:
                raise Failed(proof.problems[0], details=proof.problems[1:])
            (signed if proof.evidence or proof.revoked else unsigned).append(image)
            absent += sorted(named.get(image, set()) - _payloads(layout, image, keys.values()))
        return Evidence(signed=tuple(signed), unsigned=tuple(unsigned), absent=tuple(absent))


def _told(bundles: Sequence[Slice], held: Mapping[Digest, Slice]) -> tuple[InstallationState, dict[Digest, set[str]]]:
    """What was recorded, and the digests of statements that it names by image; raises Failed when a newer Stelae
    recorded something."""
    state, named = InstallationState(), dict[Digest, set[str]]()
    for content in bundles:
        leaves = unbundle(read(content))
        first = state.size
        recorded = [
            decode(first + place, leaf, lambda _, body: read(held[body.digest])) for place, leaf in enumerate(leaves)
        ]
        state = fold.apply_all(state, recorded)
        for item in recorded:
            if isinstance(item.event, ImageAttested):
                named.setdefault(item.event.image, set()).update(item.event.statements.values())
    return state, named


def _payloads(layout: Layout, image: Digest, pems: Iterable[str]) -> set[str]:
    """The digests of the statements of *image* that are there; all were checked before."""
    keys = [PublicKey(pem) for pem in pems]
    found = set()
    for item in referrers.of(layout, image):
        with suppress(UntrustedError):  # of another kind, or by a stranger
            found.add(str(digest_of(envelope.opened(item.layer, keys)[0].payload)))
    return found


def _laid_out(pack: Pack, found: tuple[str, Slice], layout: Layout) -> Sequence[Digest]:
    """Put what is below ``evidence`` into *layout*; return the images that it speaks of."""
    if found[0] != f"{EVIDENCE}/oci-layout":
        raise InvalidInput(f"the archive has more than a log: {found[0][:200]}")
    index = pack.read(f"{EVIDENCE}/index.json", most=MAX_DOCUMENT)
    (layout.folder / "index.json").write_bytes(index)
    lists = []
    for name, content in _rest(pack):
        listed, blob = _REFERRERS.fullmatch(name), _BLOB.fullmatch(name)
        if listed is not None and content.size <= MAX_DOCUMENT:
            folder = referrers.folder(layout)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{listed[1]}.json").write_bytes(read(content))
            lists.append(Digest(f"sha256:{listed[1]}"))
        elif blob is not None and content.size <= MAX_BLOB:
            if layout.add_blob(read(content)) != f"sha256:{blob[1]}":
                raise Failed(f"sha256:{blob[1]} is damaged: its bytes have another digest")
        else:
            raise InvalidInput(f"the archive has more than a log and what is signed of its images: {name[:200]}")
    return lists


def _rest(pack: Pack) -> Iterator[tuple[str, Slice]]:
    while (found := pack.next()) is not None:
        yield found
