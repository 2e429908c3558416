"""The witnesses of the log: asked for cosignatures of its checkpoints (C2SP tlog-witness), beside everything else.

Whoever they are is in the record, as a policy. A witness that has seen another history of this log says so by not
cosigning; that is recorded, logged and shown, for no program of this machine can say it. Nothing waits for them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from anyio import to_thread

from stelae.controller.ask import NoAnswer, Reply, ask
from stelae.controller.record import Record
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.event import WitnessPolicySet, WitnessRefused
from stelae.domain.units import SECOND
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Verifier, cosigned_at, parse_note
from stelae.ledger.policy import Policy, Witness, parse_policy
from stelae.ledger.publisher import Publisher
from stelae.witness.request import request_body

Json = dict[str, Any]
Send = Callable[[str, bytes], Reply]
"""Sends a request to the address of a witness; raises NoAnswer."""

GAP = 30.0
"""Seconds between two rounds, at least, when nobody asks for one."""

FRESH = 3600.0
"""Seconds after which they are asked again though nothing was recorded: cosignatures tell what was newest when."""

LONGEST_GAP = 600.0
"""Seconds between two tries while a witness does not answer, at most."""

SECONDS = 10.0
"""How long a witness may take."""

AT_ONCE = 8
TRIES = 3

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,17})\n?")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a witness answered last: it cosigned ``size`` events ``at`` (seconds since 1970) by ``line``; or there was
    a ``problem``; or it ``refused``, for which ``seen`` is how many events it knows."""

    size: int = 0
    at: int = 0
    line: bytes = b""
    problem: str = ""
    refused: bool = False
    seen: int = 0


@dataclass(slots=True)
class _Known:
    """What is known of a witness between two rounds."""

    seen: int = 0
    heard: Heard = field(default_factory=Heard)


def post(url: str, body: bytes) -> Reply:
    """POST to the witness at *url*."""
    return ask(url, body, kind="text/plain; charset=utf-8", seconds=SECONDS)


class Witnesses:
    """Asks the witnesses of *record*'s policy to cosign what *publisher* publishes."""

    def __init__(self, record: Record, publisher: Publisher, send: Send = post) -> None:
        self._record = record
        self._publisher = publisher
        self._send = send
        self._known: dict[Verifier, _Known] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._missing = ""

    async def set_policy(self, actor: str, text: str) -> Json:
        """Ask these witnesses from now on, none for ``""``; raises InvalidInput when it is no policy of this log."""
        if text:
            own = (await to_thread.run_sync(self._publisher.signer)).verifier
            policy = parse_policy(text.encode())
            _of_this_log(policy, own)
        event = WitnessPolicySet(text=text, digest=digest_of(text.encode()))
        await self._record.append([event], actor=actor)
        self._missing = ""
        self._changed.set()
        return self.policy()

    def policy(self) -> Json:
        """Return the policy that is in force."""
        text = self._record.state.witnesses
        return {"text": text, "digest": digest_of(text.encode()), "witnessing": self.report()}

    async def keep_asking(self) -> None:
        """Ask whenever something was recorded, until cancelled. What goes wrong is logged, and disturbs nobody."""
        told, pause = "", GAP
        while True:
            size = self._record.state.size
            self._changed.clear()
            try:
                answered = await self.ask()
                told = ""
            except Exception as error:  # noqa: BLE001 - the outermost frame of what nobody waits for
                if str(error) != told:
                    log.warning("witnesses.not_asked", problem=str(error))
                told, answered = str(error), False
            pause = GAP if answered else min(2 * pause, LONGEST_GAP)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            if answered:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FRESH):
                        await self._record.changed(size)

    async def ask(self) -> bool:
        """Ask all of them once; say whether each that has an address answered. Raises Failed when nothing can be
        published, or the policy is of another log."""
        async with self._turn:
            text = self._record.state.witnesses
            if not text:
                return True
            policy = parse_policy(text.encode())
            await to_thread.run_sync(self._round, policy)
            for name, witness in policy.witnesses.items():
                await self._tell(name, self._known[witness.verifier].heard)
            return not any(self._known[one.verifier].heard.problem for one in policy.witnesses.values() if one.url)

    async def _tell(self, name: str, heard: Heard) -> None:
        """Record a refusal, once under a policy: what the witness has seen grows, and so would the record."""
        if not heard.refused or name in self._record.state.refusals:
            return
        log.warning("witness.refused", witness=name, seen=heard.seen, size=heard.size, problem=heard.problem)
        with suppress(StelaeError):  # where nothing can be recorded the log has it
            event = WitnessRefused(witness=name, seen=heard.seen, size=heard.size, reason=heard.problem)
            await self._record.append([event])

    def report(self) -> Json:
        """Return the policy's digest, what the quorum lacked at the last round, and what each witness answered."""
        text = self._record.state.witnesses
        witnesses = parse_policy(text.encode()).witnesses if text else {}
        refusals = self._record.state.refusals
        rows = []
        for name, witness in witnesses.items():
            heard = self._known.get(witness.verifier, _Known()).heard
            refusal = refusals.get(name)
            rows.append(
                {
                    "name": name, "key": witness.verifier.vkey, "url": witness.url, "size": heard.size,
                    "at": heard.at * SECOND if heard.at else None, "refused": refusal is not None,
                    "problem": heard.problem or (refusal.reason if refusal is not None else ""),
                }
            )  # fmt: skip
        return {"digest": digest_of(text.encode()) if text else "", "missing": self._missing, "witnesses": rows}

    def _round(self, policy: Policy) -> None:
        """Ask, in threads of their own; publish the checkpoint with the cosignatures when they are enough."""
        own = self._publisher.signer().verifier
        _of_this_log(policy, own)
        checkpoint, published = self._publisher.signed()
        note = parse_note(published)  # with the cosignatures of the round before, perhaps
        signed = note.text.encode() + b"\n" + note.signed_by([own])[0][1].line
        known = {witness: self._known.setdefault(witness.verifier, _Known()) for witness in policy.witnesses.values()}

        def one(witness: Witness) -> Heard:
            if not witness.url:
                return Heard(problem="the policy has no address of it")
            try:
                return self._asked(witness, known[witness], checkpoint, signed)
            except (NoAnswer, StelaeError) as error:
                return Heard(problem=str(error))

        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="witness") as pool:
            for witness, heard in zip(known, pool.map(one, known), strict=True):
                if heard.problem and heard.problem != known[witness].heard.problem:
                    log.warning("witness.no_cosignature", witness=witness.name, problem=heard.problem)
                known[witness].heard = heard
        cosigned = signed + b"".join(item.heard.line for item in known.values())
        found = policy.look(cosigned, own)
        self._missing = found.missing
        if not found.missing and found.by:
            self._publisher.set_witnessed(checkpoint, cosigned)

    def _asked(self, witness: Witness, known: _Known, checkpoint: Checkpoint, signed: bytes) -> Heard:
        """Ask one witness, again where it says what it has seen."""
        size, url = checkpoint.size, f"{witness.url.rstrip('/')}/add-checkpoint"
        for _ in range(TRIES):
            old = min(known.seen, size)
            reply = self._send(url, request_body(old, self._publisher.growth(old, size), signed))
            if reply.status == 200:
                heard = _cosigned(witness, size, signed, reply.body)
                known.seen = size
                return heard
            seen = _SIZE.fullmatch(reply.body) if reply.status == 409 else None
            # C2SP: 409 is another size than the one that was named, or another root of this very size.
            forked = reply.status == 409 and old == size and (seen is None or int(seen[1]) == size)
            if reply.status == 422 or forked:
                return Heard(refused=True, seen=old, size=size, problem=_rewritten(old))
            if seen is not None:
                known.seen = int(seen[1])
                if known.seen > size:
                    return Heard(refused=True, seen=known.seen, size=size, problem=_rolled_back(known.seen, size))
                continue
            said = reply.body[:200].decode("utf-8", "replace").strip()
            raise NoAnswer(f"it answered {reply.status}: {said}")
        raise NoAnswer("it says each time that it has seen another number of events")


def _cosigned(witness: Witness, size: int, signed: bytes, body: bytes) -> Heard:
    """Return the cosignature in what *witness* answered, verified; raises StelaeError when it is none."""
    found = parse_note(signed.partition(b"\n\n")[0] + b"\n\n" + body).signed_by([witness.verifier])
    if not found:
        raise Failed("it answered without a cosignature of its key")
    _, signature = found[-1]
    return Heard(size=size, at=cosigned_at(signature.signature), line=signature.line)


def _rolled_back(seen: int, size: int) -> str:
    return (
        f"it has seen {seen} events, this record has {size}: it was rolled back or rewritten, event {size} and those "
        "after it are missing"
    )


def _rewritten(seen: int) -> str:
    return f"it has seen {seen} events that this record does not go on from: one before event {seen} was rewritten"


def _of_this_log(policy: Policy, own: Verifier) -> None:
    if policy.logs and own not in policy.logs:
        raise InvalidInput("the policy is of another log", hint=f"its line for this one: log {own.vkey}")
