"""The wire form of an event: canonical JSON of an envelope. These bytes are the leaf of the tree.

``{"v":1,"at":MICROSECONDS,"actor":NAME,"env":"app/name","kind":KIND,"key":KEY,"body":{...}}``, keys in canonical
order; ``env`` and ``key`` are left out when they are empty. The index is not in it: it is the leaf's place.
A leaf is at most 65,535 bytes, because entry bundles of C2SP tlog-tiles give each entry a 16 bit length. The body of
an event that would be longer is held beside the record (see ``held``), and the leaf has
``"held":{"digest":"sha256:...","size":BYTES}`` in place of ``body``: what the tree proves is the digest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import KINDS, Event, Recorded
from stelae.domain.units import MIB, Instant
from stelae.ledger.plain import UNREADABLE, from_json, plain

VERSION = 1

_NO_BODY = msgspec.Raw(b"")

MAX_LEAF = 65_535
"""The longest leaf, in bytes."""

MAX_HELD = 4 * MIB
"""The longest body that is held beside the record, in bytes."""


class HeldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a leaf says of a body that is held beside the record: the SHA-256 digest of its bytes, and how many."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_HELD)]


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A leaf as it is read: either ``body``, canonical JSON, or ``held`` is there."""

    v: int
    at: Instant
    actor: str
    kind: str
    body: msgspec.Raw = _NO_BODY
    held: HeldBody | None = None
    env: str = ""
    key: str = ""


_ENVELOPES = msgspec.json.Decoder(Envelope)

Fetch = Callable[[int, HeldBody], bytes]
"""Returns the body of the event of an index; raises Failed, which names the index, when it is not what it was."""


def encode(recorded: Recorded, hold: Callable[[bytes], object] | None = None) -> bytes:
    """Return the leaf of *recorded*; a body for which it would be too long is given to *hold*.

    Raises InvalidInput when it cannot be recorded: no actor, an event of no known kind, a value that has no
    canonical JSON, or more bytes than MAX_LEAF where there is no *hold*, and than MAX_HELD where there is.
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
        if len(leaf) > MAX_LEAF and hold is not None:
            body = canonical(envelope.pop("body"))
            if len(body) > MAX_HELD:
                raise _too_large(event, len(body), MAX_HELD)
            envelope["held"] = {"digest": digest_of(body), "size": len(body)}
            leaf = canonical(envelope)
            hold(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this {event.kind} cannot be recorded: {error}") from error
    if len(leaf) > MAX_LEAF:
        raise _too_large(event, len(leaf), MAX_LEAF)
    return leaf


def _too_large(event: Event, size: int, most: int) -> InvalidInput:
    return InvalidInput(
        f"this {event.kind} is too large for the record: {size} bytes, at most {most}",
        hint="make its settings, lists or texts shorter",
    )


def decode(index: int, leaf: bytes, fetch: Fetch | None = None) -> Recorded:
    """Return the event of leaf *index*, with *fetch* also one whose body is held beside the record.

    Raises Failed, which names the index, when it cannot be understood, or its body is not there.
    """
    envelope = read_envelope(index, leaf)
    kind = KINDS.get(envelope.kind)
    if kind is None:
        raise _unreadable(index, f"its kind {envelope.kind!r} is unknown")
    if envelope.held is None:
        body = bytes(envelope.body)
    elif fetch is None:
        raise _unreadable(index, "its body is held beside the record, which is not here")
    else:
        body = fetch(index, envelope.held)
    try:
        event = from_json(kind, body)
    except UNREADABLE as error:
        raise _unreadable(index, f"{envelope.kind}: {error}") from error
    return Recorded(
        index=index, at=envelope.at, actor=envelope.actor, event=event,
        environment=EnvironmentId(envelope.env), key=envelope.key,
    )  # fmt: skip


def read_envelope(index: int, leaf: bytes) -> Envelope:
    """Return what leaf *index* says without its event (fast); raises Failed, which names the index."""
    try:
        envelope = _ENVELOPES.decode(leaf)
        if envelope.held is not None:
            parse_digest(envelope.held.digest)
    except (*UNREADABLE, InvalidInput) as error:
        raise _unreadable(index, str(error)) from error
    if envelope.v != VERSION:
        raise _unreadable(index, f"its format is {envelope.v}, this Stelae knows {VERSION}")
    if (envelope.body is _NO_BODY) is (envelope.held is None):
        raise _unreadable(index, "it has no body, or two")
    return envelope


def _unreadable(index: int, why: str) -> Failed:
    return Failed(
        f"event {index} of the record cannot be read: {why}",
        hint="a newer Stelae may have written it; if not, restore the record from a backup",
    )
