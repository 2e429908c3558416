"""The witness itself: what it answers to whom, by the rules of C2SP tlog-witness, in their order."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from stelae.core.merkle import EMPTY_ROOT, verify_consistency
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.units import SECOND, Instant
from stelae.ledger.note import COSIGNATURE, Signer, Verifier, is_name, parse_skey
from stelae.system.clock import now
from stelae.system.files import sync_folder, write_atomic
from stelae.witness.memory import Memory, Refused, Seen, Turn
from stelae.witness.request import Request, parse_request

TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"

FORKED = "another root of a size that was cosigned"
"""Two checkpoints that contradict each other, signed by one log: the proof that it showed two histories."""

UNPROVEN = "no proof that it goes on from what was cosigned"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    kind: str = TEXT


class Witness:
    """The witness in a folder: its key, and its memory. Any thread may ask it."""

    def __init__(self, folder: Path, clock: Callable[[], Instant] = now) -> None:
        """Open what ``init`` made; raises Failed when a part of it is missing or damaged."""
        try:
            self._key = parse_skey((folder / "key").read_text("utf-8").removesuffix("\n"), COSIGNATURE)
        except (OSError, UnicodeDecodeError, InvalidInput) as error:
            raise Failed(
                f"no witness: its key cannot be read: {error}", where=str(folder),
                hint="make one: stelae witness init FOLDER NAME",
            ) from error  # fmt: skip
        self._memory = Memory(folder / "memory.db")
        self._clock = clock

    @property
    def verifier(self) -> Verifier:
        """The public key."""
        return self._key.verifier

    def close(self) -> None:
        """Close the memory."""
        self._memory.close()

    def trust(self, log: Verifier) -> bool:
        """Cosign what *log* publishes from now on; say whether that is new. Raises Conflict when a log of that
        name has another key."""
        with self._memory.turn() as turn:
            return turn.trust(log)

    def known(self) -> tuple[list[Seen], list[Refused]]:
        """Return all logs and what was refused."""
        with self._memory.turn() as turn:
            return turn.logs(), turn.refused()

    def checkpoint(self, origin_hash: str) -> Answer:
        """Answer ``GET /HASH/checkpoint``: the newest cosigned checkpoint of the log whose name has this SHA-256."""
        with self._memory.turn() as turn:
            for seen in turn.logs():
                if seen.checkpoint and sha256(seen.log.name.encode()).hexdigest() == origin_hash:
                    return Answer(200, seen.checkpoint)
        return Answer(404, b"nothing was cosigned of such a log\n")

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer ``POST /add-checkpoint``. What it says is on the disk when this returns; raises Failed when that
        cannot be said."""
        try:
            request = parse_request(body)
        except InvalidInput as error:
            return Answer(400, f"{error.message}\n".encode())
        with self._memory.turn() as turn:
            return self._judged(turn, request)

    def _judged(self, turn: Turn, request: Request) -> Answer:
        checkpoint = request.checkpoint
        seen = turn.log(checkpoint.origin)
        if seen is None:
            return Answer(404, b"this log is not known here\n")
        try:
            lines = [signature.line for _, signature in request.note.signed_by([seen.log])]
        except Failed as error:
            return Answer(403, f"{error.message}\n".encode())
        if not lines:
            return Answer(403, b"the key of this log did not sign it\n")
        signed = request.note.text.encode() + b"\n" + lines[0]
        if request.old > checkpoint.size:
            return Answer(400, b"the old size is above that of the checkpoint\n")
        at = max(self._clock() // SECOND, seen.at, 1)
        if seen.checkpoint and checkpoint.size == seen.size and checkpoint.root != seen.root:
            turn.refuse(checkpoint, FORKED, seen.size, at, signed)
        if request.old != seen.size:
            return Answer(409, f"{seen.size}\n".encode(), SIZE)
        if not _goes_on(seen, request):
            turn.refuse(checkpoint, UNPROVEN, seen.size, at, signed)
            return Answer(422, f"it does not go on from the {seen.size} leaves that were cosigned\n".encode())
        line = self._key.cosign(request.note.text, at)
        turn.remember(checkpoint, at, signed + line)
        return Answer(200, line)


def init(folder: Path, name: str) -> Verifier:
    """Make a witness called *name* in *folder* and return its public key.

    Raises InvalidInput for a name that is none, Conflict when there is one already.
    """
    if not is_name(name):
        raise InvalidInput(f"not a name: {name!r}", hint="such as witness.example.com/ana: no spaces, no plus")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (folder / "key").exists():
        raise Conflict("there is a witness already", where=str(folder))
    signer = Signer(name, secrets.token_bytes(32), COSIGNATURE)
    try:
        Memory.create(folder / "memory.db")
    except sqlite3.Error as error:
        raise Failed(f"the memory cannot be made: {error}", where=str(folder)) from error
    write_atomic(folder / "key", f"{signer.skey}\n".encode(), mode=0o600)
    sync_folder(folder)
    return signer.verifier


def _goes_on(seen: Seen, request: Request) -> bool:
    """True when the checkpoint begins with what was seen, and the empty tree, where it is one, has its root."""
    checkpoint = request.checkpoint
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        return False
    if seen.size == 0 and checkpoint.size > 0:
        return not request.proof
    return verify_consistency(seen.size, seen.root, checkpoint.size, checkpoint.root, request.proof)
