"""Events of secrets: names and versions. No value is in the record, and nothing made of one, not even its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.event.base import Event, known


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSet(Event):
    """A secret got a value, which is its version ``version`` from now on; the store has it as ``file``."""

    kind: ClassVar[str] = "secret.set"
    name: str
    version: int
    file: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRevoked(Event):
    """A version of a secret was taken back: no release that has it is deployed any more."""

    kind: ClassVar[str] = "secret.revoked"
    name: str
    version: int
    reason: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class SecretWiped(Event):
    """The value of a revoked version, which nothing that runs needs any more, was removed from the store."""

    kind: ClassVar[str] = "secret.wiped"
    name: str
    version: int
