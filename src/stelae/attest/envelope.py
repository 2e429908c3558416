"""Envelopes: a signed statement as DSSE, inside a sigstore bundle.

Sources: the DSSE protocol 1.0 (what is signed is the pre-authentication encoding, PAE), and the protobuf
specification of sigstore's bundle 0.3: exactly one signature, the key named by the base64 of its SHA-256, and no
entry of a transparency log, because a key of one's own needs none.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable

from stelae.attest import statement
from stelae.attest.keys import PrivateKey, PublicKey
from stelae.attest.statement import PAYLOAD, Statement
from stelae.domain.canonical import canonical

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""The media type of a bundle."""


class UntrustedError(ValueError):
    """What was given is not signed by a key that counts, or is damaged; the text says which."""


class StrangerError(UntrustedError):
    """It is signed by a key that is not known here."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: the type and the payload, each after its length in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def bundle(said: Statement, key: PrivateKey) -> bytes:
    """Return the bundle in which *key* signs the statement *said*."""
    payload = said.payload
    signature = key.sign(pae(PAYLOAD, payload))
    return canonical(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }
    )


def opened(data: bytes, keys: Iterable[PublicKey]) -> tuple[Statement, PublicKey]:
    """Return the statement in the bundle *data* and which of *keys* signed it.

    Raises UntrustedError for a bundle that is damaged or signed by none of them (StrangerError). What is returned
    was read from the very bytes that were verified.
    """
    try:
        document = json.loads(data)
        if document["mediaType"] != BUNDLE:
            raise UntrustedError("it is not a sigstore bundle of version 0.3")
        hint = document["verificationMaterial"]["publicKey"]["hint"]
        envelope = document["dsseEnvelope"]
        (signed,) = envelope["signatures"]
        kind, payload, signature = envelope["payloadType"], _plain(envelope["payload"]), _plain(signed["sig"])
        if kind != PAYLOAD:
            raise UntrustedError("it holds something else than a statement")
    except UntrustedError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UntrustedError("it is damaged: not a sigstore bundle") from error
    key = next((item for item in keys if item.hint == hint), None)
    if key is None:
        raise StrangerError
    if not key.verifies(signature, pae(kind, payload)):
        raise UntrustedError("its signature does not fit what it says")
    try:
        return statement.parse(payload), key
    except ValueError as error:
        raise UntrustedError(f"it holds no statement of an image: {error}") from error


def _plain(text: object) -> bytes:
    """Return base64 *text* in either alphabet as bytes; raises ValueError."""
    if not isinstance(text, str):
        raise TypeError("not a text")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
