"""Does a log go on from a checkpoint that somebody kept? Asked of its files, or of its controller."""

from __future__ import annotations

from collections.abc import Callable

from stelae.cli.log_place import LogPlace
from stelae.controller.client import Client
from stelae.core.merkle import consistency_proof, verify_consistency
from stelae.domain.errors import Failed
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.note import Verifier, from_base64

INQUIRY = "keep both, and the log's machine, as they are for an inquiry"


def grown(
    signed: bytes, log: Verifier, place: str, client: Callable[[], Client]
) -> tuple[Checkpoint, Checkpoint, bytes]:
    """Return the checkpoint *signed* of *log*, the one of the log as it is now, and that as it is signed; the log's
    files are at *place*, else *client* is asked.

    Raises Failed when the log does not go on from it, or one of the two is not signed by *log*.
    """
    old = open_checkpoint(signed, log)
    if place:
        files = LogPlace(place)
        newer = files.checkpoint()
        new = _compared(old, open_checkpoint(newer, log))
        proof = consistency_proof(old.size, new.size, files.reader(new.size))
    else:
        answer = client().get("/v1/consistency", old=old.size)
        newer = answer["checkpoint"].encode()
        new = _compared(old, open_checkpoint(newer, log))
        proof = tuple(from_base64(item) or b"" for item in answer["hashes"])
    if not verify_consistency(old.size, old.root, new.size, new.root, proof):
        raise Failed(
            f"the log does not go on from the checkpoint of {old.size} events: one before event {old.size} is "
            "another, it was rewritten", hint=INQUIRY,
        )  # fmt: skip
    return old, new, newer


def _compared(old: Checkpoint, new: Checkpoint) -> Checkpoint:
    """Return *new*; raises Failed when it is behind *old*, or contradicts it."""
    if new.size < old.size:
        raise Failed(
            f"the log has {new.size} events now, and had {old.size}: it was rolled back, event {new.size} and those "
            "after it are missing", hint=INQUIRY,
        )  # fmt: skip
    if new.size == old.size and new.root != old.root:
        raise Failed(f"the log has signed two different histories of {old.size} events", hint=INQUIRY)
    return new
