"""Events of watching: what was looked at, condensed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stelae.domain.allocation import InstanceId
from stelae.domain.event.base import Event, known
from stelae.domain.units import Duration, Instant
from stelae.domain.watch import INSPECTION_BOUND, LOOK_BOUND, Gap


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentWatched(Event):
    """A controller looked at an environment from ``since`` to ``until``, its first and its last look, never longer
    apart than ``bound`` but in the ``gaps``.

    What it saw of instances and has to be told is recorded on its own: here is that there was nothing else.
    ``phases`` counts the instances that were there at the last look, by their phase, and ``state`` is the SHA-256 of
    the canonical JSON of instance to phase then. ``inspections`` says how often all instances were inspected;
    ``missed`` are the times longer than ``inspection_bound`` in which one was not, "" for all of them.
    """

    kind: ClassVar[str] = "environment.watched"
    since: Instant
    until: Instant
    looks: int
    bound: Duration = LOOK_BOUND
    gaps: tuple[Gap, ...] = ()
    phases: Mapping[str, int] = field(default_factory=dict)
    state: str = ""
    inspections: int = 0
    inspection_bound: Duration = INSPECTION_BOUND
    missed: Mapping[InstanceId, tuple[Gap, ...]] = field(default_factory=dict)
