"""What every event is, and how a kind on the wire finds its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from stelae.domain.environment import EnvironmentId
from stelae.domain.units import Instant


class Event:
    """A fact. ``kind`` is its name on the wire."""

    __slots__ = ()
    kind: ClassVar[str]


KINDS: dict[str, type[Event]] = {}

_E = TypeVar("_E", bound=type[Event])


def known(cls: _E) -> _E:
    """Enter *cls* in ``KINDS``."""
    KINDS[cls.kind] = cls
    return cls


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event in the ledger: its leaf index, when it was recorded, and who caused it.

    ``environment`` is empty for facts of the whole installation. ``key`` is the client's idempotency key.
    """

    index: int
    at: Instant
    actor: str
    event: Event
    environment: EnvironmentId = EnvironmentId("")
    key: str = ""
