"""Events of drift: what an inspection found and what was gone again, and what a person or a rule makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift
from stelae.domain.event.base import Event, known


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFound(Event):
    """An instance differs from its release ("": what the platform holds differs from the record). ``what`` says how;
    the lines of ``evidence`` are cut, so that they fit into an entry of the record."""

    kind: ClassVar[str] = "drift.found"
    instance: InstanceId
    drift: Drift
    what: str
    evidence: tuple[str, ...] = ()


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEnded(Event):
    """A difference that was found is not there any more, by no act of Stelae, and the instance still runs."""

    kind: ClassVar[str] = "drift.ended"
    instance: InstanceId
    drift: Drift
    what: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStorm(Event):
    """``found`` instances drifted in a short time, ``of`` those that should serve: nothing more is replaced for it
    until a person asks for that."""

    kind: ClassVar[str] = "drift.storm"
    found: int
    of: int


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacementRequested(Event):
    """A person wants these instances replaced by new ones of the same release. Where nothing that drifted is left
    then, a storm is over."""

    kind: ClassVar[str] = "replacement.requested"
    instances: tuple[InstanceId, ...]
    reason: str
