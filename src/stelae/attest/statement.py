"""Statements: what is said of an image, in the form of in-toto's Statement v1.

Source: the in-toto attestation framework, spec/v1/statement.md. A subject matches by its digest only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, hex_of

Json = dict[str, Any]

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
"""The type of a statement as the payload of an envelope."""

SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
"""The type of the statement that says nothing but "this image"; its predicate is empty."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What is said (``predicate``, of the type ``type``) of the image whose digest is ``image``."""

    image: Digest
    type: str
    predicate: Json

    @cached_property
    def payload(self) -> bytes:
        """The statement as canonical bytes."""
        subject = {"digest": {"sha256": hex_of(self.image)}}
        return canonical(
            {"_type": STATEMENT, "subject": [subject], "predicateType": self.type, "predicate": self.predicate}
        )


def parse(payload: bytes) -> Statement:
    """Return the statement that *payload* holds; raises ValueError when it is none of one image."""
    try:
        document = json.loads(payload)
        if document["_type"] != STATEMENT:
            raise ValueError("not an in-toto statement of version 1")
        (subject,) = document["subject"]
        found = subject["digest"]["sha256"]
        predicate = document.get("predicate", {})
        if not (
            isinstance(found, str) and isinstance(predicate, dict) and isinstance(document["predicateType"], str)
        ):
            raise ValueError("a field of the wrong kind")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a statement: {error!r}") from error
    return Statement(image=Digest(f"sha256:{found}"), type=document["predicateType"], predicate=predicate)
