"""What is sent to a witness: ``old SIZE``, the hashes of a consistency proof, a blank line, a signed checkpoint."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stelae.core.merkle import HASH_SIZE
from stelae.domain.errors import InvalidInput
from stelae.ledger.checkpoint import Checkpoint, parse_checkpoint
from stelae.ledger.note import Note, from_base64, parse_note

LONGEST = 64 * 1024
"""The longest request that is read, in bytes: all 63 hashes, and many more signatures than any log has."""

MOST_HASHES = 63

_OLD = re.compile(rb"old (0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Request:
    """A checkpoint to be cosigned, and the proof that it goes on from the one of ``old`` leaves. Nothing of it is
    verified."""

    old: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint


def parse_request(body: bytes) -> Request:
    """Return what *body* asks for; raises InvalidInput when it is no such request."""
    head, blank, signed = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    old = _OLD.fullmatch(first)
    if len(body) > LONGEST or not blank or old is None:
        raise InvalidInput("not a request: it begins with `old SIZE`, and a blank line comes before the checkpoint")
    if len(lines) > MOST_HASHES:
        raise InvalidInput(f"more than {MOST_HASHES} hashes")
    hashes = [from_base64(line.decode("ascii", "replace")) for line in lines]
    proof = tuple(item for item in hashes if item is not None and len(item) == HASH_SIZE)
    if len(proof) != len(lines):
        raise InvalidInput("a line of the proof is no hash")
    note = parse_note(signed)
    return Request(int(old[1]), proof, note, parse_checkpoint(note.text))


def request_body(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return the request that the signed *checkpoint* be cosigned, which goes on from *old* leaves by *proof*."""
    lines = [f"old {old}", *(base64.b64encode(item).decode() for item in proof), "", ""]
    return "\n".join(lines).encode() + checkpoint
