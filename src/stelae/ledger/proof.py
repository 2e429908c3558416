"""Receipts: C2SP tlog-proof, the proof that one leaf is in a log, which is checked with the log's key alone.

    c2sp.org/tlog-proof@v1
    extra BASE64
    index N
    BASE64 of each hash

    the signed checkpoint, as it is

``extra`` is free for the application: here it is the leaf itself, whose hash is what the proof is about.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from stelae.core.merkle import HASH_SIZE, leaf_hash, verify_inclusion
from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.note import Verifier, from_base64

HEADER = "c2sp.org/tlog-proof@v1"

MOST_HASHES = 63
"""A tree that has more levels than this has no proof here."""

LONGEST = 1_000_000
"""The longest receipt that is read, in bytes."""

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Receipt:
    """Leaf *index* and how it is in the tree of *checkpoint*, a signed note."""

    index: int
    leaf: bytes
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    @property
    def text(self) -> bytes:
        """The receipt as it is kept in a file."""
        lines = [HEADER, f"extra {_base64(self.leaf)}", f"index {self.index}", *map(_base64, self.hashes), "", ""]
        return "\n".join(lines).encode() + self.checkpoint

    def check(self, verifier: Verifier) -> Checkpoint:
        """Return the checkpoint that *verifier* signed and that the leaf is in.

        Raises InvalidInput when there is no checkpoint in the receipt, Failed when it proves nothing.
        """
        checkpoint = open_checkpoint(self.checkpoint, verifier)
        found = leaf_hash(self.leaf)
        if not verify_inclusion(found, self.index, checkpoint.size, self.hashes, checkpoint.root):
            raise Failed(
                f"the receipt proves nothing: this is not event {self.index} of the log {checkpoint.origin}, or it "
                "was changed"
            )
        return checkpoint


def parse_receipt(data: bytes) -> Receipt:
    """Return the receipt in *data*, of which nothing is verified yet; raises InvalidInput when it is none."""
    head, blank, checkpoint = data.partition(b"\n\n")
    if len(data) > LONGEST or not blank or not head.isascii():
        raise InvalidInput("not a receipt", hint="it is the text that `stelae audit receipt` prints")
    lines = head.decode("ascii").split("\n")
    extra = from_base64(lines[1].removeprefix("extra ")) if len(lines) > 2 else None
    if lines[0] != HEADER or extra is None or not lines[1].startswith("extra "):
        raise InvalidInput("not a receipt of Stelae: it begins with another line, or has no event in it")
    index = _INDEX.fullmatch(lines[2])
    hashes = [from_base64(line) for line in lines[3:]]
    proof = tuple(item for item in hashes if item is not None and len(item) == HASH_SIZE)
    if index is None or len(proof) != len(hashes) or len(hashes) > MOST_HASHES:
        raise InvalidInput("not a receipt: its index or one of its hashes is none")
    return Receipt(int(index[1]), extra, proof, checkpoint)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
