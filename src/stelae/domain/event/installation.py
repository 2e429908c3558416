"""Events of the whole installation: its controller, whose keys count, and its disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stelae.domain.digest import Digest
from stelae.domain.event.base import Event, known
from stelae.domain.units import Duration


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStarted(Event):
    """A controller of this version checked the ledger and took over."""

    kind: ClassVar[str] = "controller.started"
    version: str
    boot: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDiffers(Event):
    """The machine's clock was put back: the record's times, this one too, are up to ``ahead`` microseconds ahead of
    it. 0: they are the machine's again."""

    kind: ClassVar[str] = "clock.differs"
    ahead: Duration


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTrusted(Event):
    """The signatures of a key count from now on: ``pem`` is its public half. ``signs`` says that this installation
    has the private half, made or given."""

    kind: ClassVar[str] = "key.trusted"
    key: str
    pem: str
    signs: bool = True


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(Event):
    """An image (its digest) or a key (its id) was taken back: nothing of it is deployed any more."""

    kind: ClassVar[str] = "trust.revoked"
    name: str
    reason: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCleaning(Event):
    """What nothing needs is about to be removed from the disk: ``counts`` of things by their kind, their size in
    ``bytes``, and the digests of the images among them (of very many, some entries follow each other)."""

    kind: ClassVar[str] = "storage.cleaning"
    images: tuple[Digest, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCleaned(Event):
    """What was removed from the disk; ``problem`` says why that was not all, or nothing."""

    kind: ClassVar[str] = "storage.cleaned"
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    problem: str = ""
