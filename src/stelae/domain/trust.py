"""Trust: which keys count here, what an environment demands of an image, and what was taken back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.units import Instant


class Requirement(StrEnum):
    """What an environment may demand of an image: each is checked with a key that counts."""

    SIGNATURE = "signature"
    PROVENANCE = "provenance"
    SBOM = "sbom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Who took an image or a key back, when and why."""

    actor: str
    at: Instant
    reason: str

    def __str__(self) -> str:
        return f"by {self.actor}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key whose signatures count here: ``id`` is ``k-`` and 52 characters of its digest, ``pem`` its text.

    ``signs`` is true for keys whose private half this installation has, or had.
    """

    id: str
    pem: str
    actor: str
    at: Instant
    signs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """One time an image was signed: by which key, and which statements (their payloads' digests, by type)."""

    key: str
    at: Instant
    commit: str = ""
