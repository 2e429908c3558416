"""The law of deadlines, held against the true time: no rollout waits on after it, whatever clocks say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stelae.core import deadlines
from stelae.domain.environment import EnvironmentId
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND, Instant

_LOOKS = 5
"""So many looks after a deadline its rollout must have moved: each look is followed by a decision."""


@dataclass(slots=True)
class _Due:
    """When a rollout has to move at the latest, by the true time, and how many looks came later."""

    of: tuple[object, ...]
    at: Instant
    looks: int = 0


class DeadlineLaws:
    """Judges how long rollouts wait. *now* is the true time, *clock* the controller's."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now
        self._due: dict[EnvironmentId, _Due] = {}

    def attached(self) -> None:
        """Forget what was due: time in which no controller lived may not have counted."""
        self._due.clear()

    def looked(self, env: EnvironmentState, clock: Instant) -> str:
        """Return the law that is broken at a look at *env*, when the controller's clock is *clock*; "" for none."""
        rollout = env.rollout
        if rollout is None or rollout.unreachable_since is not None:
            self._due.pop(env.id, None)
            return ""
        what = (rollout, env.config, env.freeze, env.wanted)
        due = self._due.get(env.id)
        if due is None or due.of != what:
            left = max(0, deadlines.deadline(env, rollout).at - clock)
            due = self._due[env.id] = _Due(of=what, at=self._now() + left * 10 // 9 + SECOND)
        due.looks += self._now() > due.at
        if due.looks > _LOOKS:
            late = (self._now() - due.at) // SECOND
            return f"law 8: {rollout.deployment} waits on {late} s after its deadline"
        return ""
