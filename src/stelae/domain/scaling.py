"""Scaling: between which numbers of instances a process may be held, and what decides in between."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.units import MINUTE, SECOND, Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How quickly a count may change in one direction.

    ``window`` is how long all that was measured must speak for the change. Within a ``period`` the count changes by
    at most ``share`` percent of what it was when the period began, or by ``count``: by the larger of the two. 0 is
    nothing; with both 0 there is no limit.
    """

    window: Duration = 0
    share: int = 0
    count: int = 0
    period: Duration = SECOND


UP = Pace(window=0, share=100, count=20, period=5 * SECOND)
"""Up at once: within five seconds to the double, or by 20."""

DOWN = Pace(window=5 * MINUTE, share=50, period=MINUTE)
"""Down when nothing in five minutes asked for more, and by at most half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many instances a process has: at least ``least``, at most ``most``, and in between as many as keep the
    measures of each at their targets. With two targets the larger count holds.

    ``target_rps`` is requests a second, ``target_cpu`` percent of the processor time that an instance may use (its
    limit, or one core where it has none); 0 is no target. A difference of up to ``tolerance`` percent changes
    nothing.
    """

    least: int
    most: int
    target_rps: int = 0
    target_cpu: int = 0
    tolerance: int = 10
    up: Pace = UP
    down: Pace = DOWN
