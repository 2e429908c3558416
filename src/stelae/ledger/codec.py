"""The wire form of an event: canonical JSON of an envelope. These bytes are the leaf of the tree.

``{"v":1,"at":MICROSECONDS,"actor":NAME,"env":"app/name","kind":KIND,"key":KEY,"body":{...}}``, keys in canonical
order; ``env`` and ``key`` are left out when they are empty. The index is not in it: it is the leaf's place.
A leaf is at most 65,535 bytes, because entry bundles of C2SP tlog-tiles give each entry a 16 bit length.
"""

from __future__ import annotations

import msgspec

from stelae.domain.canonical import canonical
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import KINDS, Recorded
from stelae.domain.units import Instant
from stelae.ledger.plain import UNREADABLE, from_json, plain

VERSION = 1

MAX_LEAF = 65_535
"""The longest leaf, in bytes."""


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    at: Instant
    actor: str
    kind: str
    body: msgspec.Raw
    env: str = ""
    key: str = ""


_ENVELOPES = msgspec.json.Decoder(_Envelope)


def encode(recorded: Recorded) -> bytes:
    """Return the leaf of *recorded*.

    Raises InvalidInput when it cannot be recorded: no actor, an event of no known kind, a value that has no
    canonical JSON, or more than MAX_LEAF bytes.
    """
    event = recorded.event
    if not recorded.actor:
        raise InvalidInput("an event without an actor cannot be recorded")
    if KINDS.get(event.kind) is not type(event):
        raise InvalidInput(f"{type(event).__name__} is not a known kind of event")
    envelope: dict[str, object] = {
        "v": VERSION,
        "at": recorded.at,
        "actor": recorded.actor,
        "kind": event.kind,
    }
    if recorded.environment:
        envelope["env"] = recorded.environment
    if recorded.key:
        envelope["key"] = recorded.key
    try:
        envelope["body"] = plain(event)
        leaf = canonical(envelope)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this {event.kind} cannot be recorded: {error}") from error
    if len(leaf) > MAX_LEAF:
        raise InvalidInput(
            f"this {event.kind} is too large for the record: {len(leaf)} bytes, at most {MAX_LEAF}",
            hint="make its settings, lists or texts shorter",
        )
    return leaf


def decode(index: int, leaf: bytes) -> Recorded:
    """Return the event of leaf *index*; raises Failed, which names the index, when it cannot be understood."""
    envelope = _envelope(index, leaf)
    kind = KINDS.get(envelope.kind)
    if kind is None:
        raise _unreadable(index, f"its kind {envelope.kind!r} is unknown")
    try:
        event = from_json(kind, bytes(envelope.body))
    except UNREADABLE as error:
        raise _unreadable(index, f"{envelope.kind}: {error}") from error
    return Recorded(
        index=index, at=envelope.at, actor=envelope.actor, event=event,
        environment=EnvironmentId(envelope.env), key=envelope.key,
    )  # fmt: skip


def decode_at(index: int, leaf: bytes) -> Instant:
    """Return only when leaf *index* was recorded (fast); raises Failed, which names the index."""
    return _envelope(index, leaf).at


def _envelope(index: int, leaf: bytes) -> _Envelope:
    try:
        envelope = _ENVELOPES.decode(leaf)
    except UNREADABLE as error:
        raise _unreadable(index, str(error)) from error
    if envelope.v != VERSION:
        raise _unreadable(index, f"its format is {envelope.v}, this Stelae knows {VERSION}")
    return envelope


def _unreadable(index: int, why: str) -> Failed:
    return Failed(
        f"event {index} of the record cannot be read: {why}",
        hint="a newer Stelae may have written it; if not, restore the record from a backup",
    )
