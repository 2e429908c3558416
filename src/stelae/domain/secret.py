"""Secrets of an environment: values that its instances get, told apart by name and version and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.trust import Revocation
from stelae.domain.units import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """One value that was set, without the value. It is never changed: another value is another version.

    ``file`` is what it is called in the store, drawn by lot: nothing here tells anything of the value. ``wiped`` is
    true when the value of a revoked version is not in the store any more.
    """

    version: int
    file: str
    actor: str
    at: Instant
    revoked: Revocation | None = None
    wiped: bool = False
