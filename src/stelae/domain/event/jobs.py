"""Events of jobs: their runs are asked for, end, or are made to end. A launch is an action like every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.allocation import InstanceId
from stelae.domain.event.base import Event, known
from stelae.domain.job import DEFAULT_TIMEOUT
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId
from stelae.domain.run import Debug, RunOutcome
from stelae.domain.units import Duration


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequested(Event):
    """A job of a release should run once, or a command in its place (``job`` is "" then). ``deployment`` and ``step``
    say for which rollout, and -1 that it comes before the traffic; ``by`` is who asked for that deployment. ``debug``
    is there for a debug session."""

    kind: ClassVar[str] = "run.requested"
    run: InstanceId
    release: ReleaseId
    job: str = ""
    command: tuple[str, ...] = ()
    timeout: Duration = DEFAULT_TIMEOUT
    irreversible: bool = False
    deployment: str = ""
    step: int = -1
    by: str = ""
    key: str = ""
    debug: Debug | None = None


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnding(Event):
    """A run is being ended, and will have ``outcome``: its time is over, or nobody wants it any more."""

    kind: ClassVar[str] = "run.ending"
    run: InstanceId
    outcome: RunOutcome
    reason: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """A run is over; ``exit`` is None when it never started, or when nobody knows how it ended."""

    kind: ClassVar[str] = "run.ended"
    run: InstanceId
    outcome: RunOutcome
    reason: str = ""
    exit: Exit | None = None
