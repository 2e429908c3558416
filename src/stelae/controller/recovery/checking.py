"""Checking an exported log, without a controller: signature, events, tree, and what is signed of the images."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stelae.attest import checking
from stelae.controller.recovery.export import CHECKPOINT, EVIDENCE, KEY, README
from stelae.core import fold
from stelae.core.merkle import HASH_SIZE, leaf_hash
from stelae.core.tiles import ENTRIES, WIDTH, Edge, Tile, tiles_of, unbundle
from stelae.domain.digest import Digest, short
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.state import InstallationState
from stelae.images import referrers
from stelae.images.blobs import MAX_DOCUMENT
from stelae.images.content import Slice, read
from stelae.images.layout import Layout
from stelae.images.pack import Pack
from stelae.images.referrers import MAX_BLOB
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.codec import MAX_LEAF, decode
from stelae.ledger.note import LONGEST, Verifier, parse_vkey

_TEXT = 1 << 20
_MOST_BUNDLE = WIDTH * (2 + MAX_LEAF)
_REFERRERS = re.compile(rf"{EVIDENCE}/referrers/sha256/([0-9a-f]{{64}})\.json")
_BLOB = re.compile(rf"{EVIDENCE}/blobs/sha256/([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What an archive was found to be: a log, its checkpoint, and of which images what is signed was checked.

    ``own_key`` says that the key came from the archive itself. ``unsigned`` are images of which nothing by a key of
    the record is here.
    """

    checkpoint: Checkpoint
    verifier: Verifier
    own_key: bool
    signed: tuple[Digest, ...] = ()
    unsigned: tuple[Digest, ...] = ()


@dataclass(slots=True)
class _Log:
    checkpoint: Checkpoint
    bundles: list[Slice] = field(default_factory=list)


def check_archive(path: Path, verifier: Verifier | None) -> Checked:
    """Check the archive at *path*, by *verifier* or, without one, by the key in it.

    Raises InvalidInput when it is none or is not whole, Failed, which names the first bad event, when something in it
    is not what was signed.
    """
    pack = Pack(path)
    pack.read(README, most=_TEXT)
    given = parse_vkey(_line(pack.read(KEY, most=_TEXT)))
    known = verifier or given
    checkpoint = open_checkpoint(pack.read(CHECKPOINT, most=LONGEST), known)
    log = _log(pack, checkpoint)
    found = pack.next()
    signed: tuple[Digest, ...] = ()
    unsigned: tuple[Digest, ...] = ()
    if found is not None:
        signed, unsigned = _evidence(pack, found, _state(log))
    return Checked(
        checkpoint=checkpoint, verifier=known, own_key=verifier is None, signed=signed, unsigned=unsigned
    )  # fmt: skip


def _line(data: bytes) -> str:
    try:
        return data.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError:
        raise InvalidInput("the key in the archive is none") from None


def _log(pack: Pack, checkpoint: Checkpoint) -> _Log:
    """Read the events and the tiles, and compare them with each other and with the checkpoint."""
    log, edge = _Log(checkpoint), Edge()
    for tile in tiles_of(checkpoint.size):
        if tile.level != ENTRIES:
            break
        content = pack.expect(tile.path, most=_MOST_BUNDLE)
        for leaf in _leaves(tile, read(content)):
            for made, data in edge.append(leaf_hash(leaf)):
                _compare(pack, made, data)
        log.bundles.append(content)
    for made, data in edge.partial():
        _compare(pack, made, data)
    if edge.root() != checkpoint.root:
        raise Failed(
            f"the {checkpoint.size} events and their tree fit together, but are not those that were signed: all of "
            "it was made again", where=checkpoint.origin,
        )  # fmt: skip
    return log


def _leaves(tile: Tile, data: bytes) -> list[bytes]:
    try:
        leaves = unbundle(data)
    except ValueError:
        raise Failed(f"the events {tile.first} to {tile.first + tile.width - 1} are damaged: cut off") from None
    if len(leaves) != tile.width:
        bad = tile.first + min(len(leaves), tile.width)
        raise Failed(f"event {bad} is missing, or was added: {len(leaves)} in place of {tile.width} are there")
    return leaves


def _compare(pack: Pack, tile: Tile, data: bytes) -> None:
    """Compare a tile with what the events make of it; raises Failed, which names the first event that differs."""
    there = pack.read(tile.path, most=len(data))
    if there == data:
        return
    steps = range(0, len(data), HASH_SIZE)
    first = next(at for at in (*steps, len(data)) if there[at : at + HASH_SIZE] != data[at : at + HASH_SIZE])
    width = 1 << 8 * tile.level
    event = tile.first + first // HASH_SIZE * width
    which = f"event {event} is" if width == 1 else f"one of the events {event} to {event + width - 1} is"
    raise Failed(f"{which} not what was published: {tile.path} has another hash")


def _state(log: _Log) -> InstallationState:
    """What was recorded up to the checkpoint; raises Failed when a newer Stelae recorded something."""
    state, index = InstallationState(), 0
    for content in log.bundles:
        leaves = unbundle(read(content))
        state = fold.apply_all(state, [decode(index + place, leaf) for place, leaf in enumerate(leaves)])
        index += len(leaves)
    return state


def _evidence(
    pack: Pack, found: tuple[str, Slice], state: InstallationState
) -> tuple[tuple[Digest, ...], tuple[Digest, ...]]:
    """Check what is signed of images by the keys that the record trusts; return the images of which something is, and
    those of which nothing is."""
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
        for image in images:
            proof = checking.check(layout, image, keys, revoked)
            if proof.problems:
                raise Failed(proof.problems[0], details=proof.problems[1:])
            (signed if proof.evidence or proof.revoked else unsigned).append(image)
        return tuple(signed), tuple(unsigned)


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
