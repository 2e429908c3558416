"""Watching: from when to when an environment was looked at, so that silence in the record means that nothing changed.

A time counts as observed when there was a look no longer before it, and one no longer after it, than a stated bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stelae.domain.allocation import InstanceId
from stelae.domain.units import HOUR, MINUTE, SECOND, Duration, Instant

LOOK_BOUND: Duration = 15 * SECOND
"""The longest time between two looks at what runs, and which of it is ready, that is no gap."""

INSPECTION_BOUND: Duration = 30 * SECOND
"""The longest time between two inspections (see ``stelae.domain.drift``) that is no gap."""

EVERY: Duration = 10 * MINUTE
"""How long a watch lasts at most before it is recorded: some 144 entries of the record a day and environment."""

DAY: Duration = 24 * HOUR

MOST_GAPS = 100
"""So many gaps are told one by one; of more, neighbours are told as one that is longer."""

WHOLE = InstanceId("")
"""Stands for all instances of an environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which nobody looked, and why."""

    since: Instant
    until: Instant
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What is recorded of the watch over an environment: ``since`` its first look and ``until`` its last; ``gaps`` in
    the day before ``until``, those between two watches too. ``bound`` is that of the last watch, ``state`` the digest
    of what was seen last (see ``EnvironmentWatched``)."""

    since: Instant
    until: Instant
    bound: Duration = LOOK_BOUND
    gaps: tuple[Gap, ...] = ()
    state: str = ""
    phases: Mapping[str, int] = field(default_factory=dict)
