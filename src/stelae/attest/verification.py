"""What a controller says of an image that it verified: a signed statement, kept as a referrer of the image.

Another controller lets the image in on this statement when it was told to trust its key for that environment. The
predicate is Stelae's own; ``docs/promotion.md`` describes it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from stelae import __version__
from stelae.attest import envelope
from stelae.attest.envelope import UntrustedError
from stelae.attest.keys import PrivateKey, PublicKey
from stelae.attest.signing import bundled
from stelae.attest.statement import Json, Statement
from stelae.domain.digest import Digest, digest_of
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.promotion import Verification
from stelae.domain.release import ReleaseId
from stelae.domain.trust import TrustedKey
from stelae.domain.units import SECOND, Instant
from stelae.images import referrers
from stelae.images.layout import Layout
from stelae.images.referrers import Referrer

PREDICATE = "https://stelae.dev/verification/v1"

LONGEST = 500
"""Characters of a text in a statement that are taken."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """That an image was verified in the environment ``verifies``, as ``key`` says in a statement of that digest."""

    verifies: EnvironmentId
    key: str
    statement: Digest
    release: ReleaseId
    deployment: str
    since: Instant
    at: Instant
    evidence: str


def said(image: Digest, environment: EnvironmentId, verification: Verification, size: int) -> Statement:
    """Return the statement that *image* was verified in *environment*; *size* is that of the record by then."""
    app, _, name = environment.partition("/")
    predicate: Json = {
        "app": app,
        "environment": name,
        "release": verification.release,
        "deployment": verification.deployment,
        "since": _time(verification.since),
        "verifiedOn": _time(verification.at),
        "evidence": verification.evidence,
        "verifier": {"version": {"stelae": __version__}, "record": f"ledger:{size}"},
    }
    return Statement(image=image, type=PREDICATE, predicate=predicate)


def keep(layout: Layout, statement: Statement, key: PrivateKey) -> Digest:
    """Sign *statement* with *key*, keep it beside its image in *layout*, and return its digest.

    Raises Failed when the image is not there, or it cannot be kept.
    """
    subject = statement.image, len(layout.blobs.read(statement.image))
    referrers.add(layout, statement.image, [bundled(subject, statement, key)])
    return digest_of(statement.payload)


def found(
    layout: Layout, image: Digest, verifiers: Mapping[EnvironmentId, Mapping[str, TrustedKey]]
) -> tuple[Verified, ...]:
    """Return what counts of what *layout* has on where *image* was verified, oldest first: statements by keys that
    *verifiers* has for the very environment that they speak of. Raises Failed when the list of statements is broken.
    """
    keys = {key.id: PublicKey(key.pem) for known in verifiers.values() for key in known.values()}
    items = (_read(item, image, tuple(keys.values())) for item in (referrers.of(layout, image) if keys else ()))
    return tuple(item for item in items if item is not None and item.key in verifiers.get(item.verifies, {}))


def _read(item: Referrer, image: Digest, keys: tuple[PublicKey, ...]) -> Verified | None:
    """Return what *item* says, None for what is damaged, of another image or another kind, or by no such key."""
    try:
        if item.document["subject"]["digest"] != image or item.document.get("artifactType") != envelope.BUNDLE:
            return None
        statement, key = envelope.opened(item.layer, keys)
        if statement.image != image or statement.type != PREDICATE:
            return None
        return _of(statement, key)
    except (UntrustedError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _of(statement: Statement, key: PublicKey) -> Verified:
    predicate = statement.predicate
    app, name = _text(predicate, "app"), _text(predicate, "environment")
    if "/" in app or "/" in name:
        raise ValueError("the name of an app or an environment has no slash")
    return Verified(
        verifies=environment_id(app, name),
        key=key.id,
        statement=digest_of(statement.payload),
        release=ReleaseId(_text(predicate, "release")),
        deployment=_text(predicate, "deployment"),
        since=_instant(_text(predicate, "since")),
        at=_instant(_text(predicate, "verifiedOn")),
        evidence=_text(predicate, "evidence"),
    )


def _text(predicate: Json, name: str) -> str:
    value = predicate[name]
    if not isinstance(value, str) or len(value) > LONGEST or not all(c.isprintable() for c in value):
        raise ValueError(f"{name} is not a short text")
    return value


def _time(at: Instant) -> str:
    return datetime.datetime.fromtimestamp(at // SECOND, datetime.UTC).strftime(_TIME)


def _instant(text: str) -> Instant:
    parsed = datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.UTC)
    return int(parsed.timestamp()) * SECOND
