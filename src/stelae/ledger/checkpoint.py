"""Checkpoints (C2SP tlog-checkpoint): which log, how many leaves, which root; signed as a note.

``origin "\\n" size "\\n" base64(root) "\\n"``. The origin is the name of the key that signs. Further lines
are taken from others, and never written.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from stelae.core.merkle import HASH_SIZE
from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.note import Verifier, from_base64, parse_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a log stands. ``root`` is the root of the tree over its first ``size`` leaves."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that the text of a note is; raises InvalidInput when it is none."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise InvalidInput("not a checkpoint: it needs a name, a size and a root")
    root = from_base64(lines[2])
    if not _SIZE.fullmatch(lines[1]) or root is None or len(root) != HASH_SIZE:
        raise InvalidInput("not a checkpoint: its second line is no size, or its third no root")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(data: bytes, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint in the signed note *data*.

    Raises InvalidInput when it is none, Failed when *verifier* did not sign it or it is of another log.
    """
    note = parse_note(data)
    note.verified([verifier])
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != verifier.name:
        raise Failed(f"the checkpoint is of the log {checkpoint.origin}, the key of {verifier.name}")
    return checkpoint
