"""The API's messages about secrets. What is wrong with one is told without what it says: it may be a value."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stelae.controller.messages import EnvironmentRef, Message, Text, form

Name = Annotated[
    str,
    form("the name of a secret, such as DATABASE_URL", r"[A-Za-z_][A-Za-z0-9._-]{0,63}"),
]
Value = Annotated[str, form("the value in base64", r"[A-Za-z0-9+/]*={0,2}", longest=90_000)]
Version = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class SetSecret(Message, frozen=True):
    """POST /v1/secrets"""

    environment: EnvironmentRef
    name: Name
    value: Value


class RevokeSecret(Message, frozen=True):
    """POST /v1/secret-revocations"""

    environment: EnvironmentRef
    name: Name
    version: Version
    reason: Text


class SecretsQuery(Message, frozen=True):
    """The query of GET /v1/secrets"""

    environment: EnvironmentRef
