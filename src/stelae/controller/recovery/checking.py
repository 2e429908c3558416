"""Checking an exported log, without a controller: signature, events, tree, and what is signed of the images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stelae.controller.recovery.evidence import Evidence, check_evidence
from stelae.controller.recovery.export import CHECKPOINT, HELD, KEY, README, held_by
from stelae.core.merkle import HASH_SIZE, leaf_hash
from stelae.core.tiles import ENTRIES, WIDTH, Edge, Tile, tiles_of, unbundle
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images.content import Slice, read
from stelae.images.pack import Pack
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.codec import MAX_HELD, MAX_LEAF, HeldBody
from stelae.ledger.note import LONGEST, Verifier, parse_vkey

_TEXT = 1 << 20
_MOST_BUNDLE = WIDTH * (2 + MAX_LEAF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What an archive was found to be: a log, its checkpoint, and of which images what is signed was checked.

    ``own_key`` says that the key came from the archive itself; ``evidence`` is None where only a log is in it.
    """

    checkpoint: Checkpoint
    verifier: Verifier
    own_key: bool
    evidence: Evidence | None = None


@dataclass(slots=True)
class _Log:
    checkpoint: Checkpoint
    bundles: list[Slice] = field(default_factory=list)
    held: dict[Digest, Slice] = field(default_factory=dict)


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
    evidence = check_evidence(pack, found, log.bundles, log.held) if found is not None else None
    return Checked(checkpoint=checkpoint, verifier=known, own_key=verifier is None, evidence=evidence)


def _line(data: bytes) -> str:
    try:
        return data.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError:
        raise InvalidInput("the key in the archive is none") from None


def _log(pack: Pack, checkpoint: Checkpoint) -> _Log:
    """Read the events and the tiles, and compare them with each other and with the checkpoint."""
    log, edge, needed = _Log(checkpoint), Edge(), dict[Digest, tuple[int, HeldBody]]()
    for tile in tiles_of(checkpoint.size):
        if tile.level != ENTRIES:
            break
        content = pack.expect(tile.path, most=_MOST_BUNDLE)
        leaves = _leaves(tile, read(content))
        needed |= held_by(tile.first, leaves)
        for leaf in leaves:
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
    for digest, (index, body) in sorted(needed.items()):
        content = pack.expect(f"{HELD}/{hex_of(digest)}", most=MAX_HELD)
        if content.size != body.size or digest_of(read(content)) != digest:
            raise Failed(f"the body of event {index}, which is held beside it, is not what was recorded")
        log.held[digest] = content
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
