"""Clocks of a rollout: what counts against which deadline. Pure.

The machine's own time counts from ``step_at`` and ``held_at`` against ``Strategy.progress`` and the soak. While a
person is waited for (a pause, a question) or the platform does not answer, those clocks stand still: other deadlines
count then (``patience``, ``platform``). A clock that stood still is put off by as long as it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stelae.domain.state import Rollout
from stelae.domain.units import Duration, Instant

NOBODY: Mapping[str, Any] = {"asks": "", "asks_since": None}
"""What a rollout has while it asks nobody."""


def person_since(rollout: Rollout) -> Instant | None:
    """Return since when a person is waited for, None while none is."""
    return rollout.asks_since if rollout.paused_at is None else rollout.paused_at


def back(rollout: Rollout, at: Instant) -> Rollout:
    """Return *rollout* when the platform answers again at *at*."""
    lost, person = rollout.unreachable_since, person_since(rollout)
    if lost is None:
        return rollout
    # Where a person is waited for, the clocks go on standing: the time since then is put off when they start again.
    stood = (at if person is None else max(lost, person)) - lost
    return replace(_put_off(rollout, stood, at), unreachable_since=None)


def answered(rollout: Rollout, at: Instant) -> Rollout:
    """Return *rollout* when what it asked is answered at *at*, or nobody need answer any more."""
    if rollout.asks_since is None:
        return rollout
    return replace(_put_off(rollout, _stood(rollout, rollout.asks_since, at), at), **NOBODY)


def resumed(rollout: Rollout, at: Instant) -> Rollout:
    """Return *rollout* when it is not paused any more from *at* on, and asks nothing."""
    rollout = answered(rollout, at)
    if rollout.paused_at is None:
        return rollout
    return replace(_put_off(rollout, _stood(rollout, rollout.paused_at, at), at), paused_at=None, paused_by="")


def _stood(rollout: Rollout, since: Instant, at: Instant) -> Duration:
    """How long the clocks stood from *since* to *at*; where the platform does not answer, the time since it stopped
    is put off when it is back."""
    lost = rollout.unreachable_since
    return (at if lost is None else max(since, lost)) - since


def _put_off(rollout: Rollout, by: Duration, at: Instant) -> Rollout:
    """Put the clocks off by the time that they stood; not beyond *at*, where the step was held anew meanwhile."""
    held = rollout.held_at
    return replace(rollout, step_at=rollout.step_at + by, held_at=None if held is None else min(held + by, at))
