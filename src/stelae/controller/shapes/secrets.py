"""The shapes of answers about secrets. None has a value."""

from __future__ import annotations

from typing import TypedDict

from stelae.controller.shapes.common import Count, OptionalDigest, Time
from stelae.controller.shapes.proofs import Revocation


class SecretSet(TypedDict):
    """The version that the value is now. ``new`` is false when the newest version had this value before; ``listed``
    says whether the environment's table names the secret, and ``image`` is what serves (``""`` for nothing)."""

    environment: str
    name: str
    version: Count
    new: bool
    listed: bool
    image: OptionalDigest


class Version(TypedDict):
    """A version of a secret: ``wiped`` when its value is not kept any more; the releases that have it, and whether
    one of them is held now (running, kept warm, or on its way)."""

    version: Count
    by: str
    at: Time
    revoked: Revocation | None
    wiped: bool
    releases: list[str]
    held: bool


class Secret(TypedDict):
    """A secret: whether the environment's table names it, and as an environment variable too; its versions, oldest
    first."""

    name: str
    listed: bool
    variable: bool
    versions: list[Version]


class Secrets(TypedDict):
    """The secrets of an environment."""

    environment: str
    secrets: list[Secret]


class SecretRevoked(TypedDict):
    """What was revoked. ``releases`` are those that run with it still; ``wiped`` says whether the value is gone."""

    environment: str
    name: str
    version: Count
    releases: list[str]
    wiped: bool
    image: OptionalDigest
