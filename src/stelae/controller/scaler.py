"""The scaler of one environment: remembers what the loop sees, and records counts that must change.

What to do is ``stelae.core.autoscale``'s; that what is recorded is decided in its turn is the record's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from stelae.controller.record import Record
from stelae.core import autoscale
from stelae.core import request as asking
from stelae.core.autoscale import Memory
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, Refused
from stelae.domain.event import Scaled
from stelae.domain.observation import Observation
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND, Duration, Instant
from stelae.platforms.port import Capability

log = structlog.get_logger(__name__)

ACTOR = "autoscale"
"""Who scaled, in the record, when no person did."""

CALM = 0.5
"""Seconds between two looks at an environment that is scaled: a load that jumps shows within two of them."""

BUSY = 0.25
"""Seconds between two looks while a count may have to change soon."""

AGAIN: Duration = 10 * SECOND
"""How long to wait when the record takes nothing, as on a full disk."""


class Scaler:
    """Scales the environment *name*; *able* says what its platform can do."""

    def __init__(
        self, name: EnvironmentId, record: Record, clock: Callable[[], Instant],
        able: Callable[[], Collection[Capability]],
    ) -> None:  # fmt: skip
        self._name = name
        self._record = record
        self._clock = clock
        self._able = able
        self._memory = Memory()
        self._not_before: Instant = 0

    @property
    def _env(self) -> EnvironmentState:
        return self._record.environment(self._name) or EnvironmentState(id=self._name)

    async def scale(self, seen: Observation) -> bool:
        """Remember *seen*, and record the counts that must change; true when there was one."""
        counted = Capability.TRAFFIC_COUNTS in self._able()
        self._memory = autoscale.remembered(self._memory, self._env, seen, counted=counted)
        now = self._clock()
        if not self._events(seen) or 0 <= self._not_before - now <= AGAIN:
            return False
        try:
            recorded = await self._record.append(
                lambda: self._events(seen), actor=ACTOR, environment=self._name, urgent=False
            )
        except Failed as error:
            log.warning("scaling.not_recorded", environment=self._name, problem=str(error))
            self._not_before = now + AGAIN
            return False
        done = tuple(item.event for item in recorded if isinstance(item.event, Scaled))
        self._memory = autoscale.noted(self._memory, done)
        return bool(done)

    def pause(self) -> float | None:
        """Return after how many seconds to look again at the latest; None where nothing is scaled."""
        if not self._memory.courses:
            return None
        return BUSY if autoscale.busy(self._memory, self._env) else CALM

    def _events(self, seen: Observation) -> tuple[Scaled, ...]:
        env = self._env
        if not seen.complete or seen.applied < env.applied:
            return ()  # an act that went on beside the loop has ended since
        try:
            asking.admit_more(self._record.state, env, {name: count + 1 for name, count in env.wanted.items()})
            more = True
        except Refused:
            more = False
        return autoscale.decided(self._memory, env, self._clock(), more=more)
