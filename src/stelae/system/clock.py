"""The one place that reads the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from stelae.domain.units import Duration, Instant

_SLOWED = (9, 10)
"""How fast the time goes on while it is ahead of the machine's clock: it waits for that one, and never stands."""


def now() -> Instant:
    """Return the time in microseconds since 1970 (UTC), by the machine's clock, which may be put back."""
    return time.time_ns() // 1000


def steady() -> Instant:
    """Return microseconds since the machine started, also of the time it slept: nobody sets this clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class OnwardClock:
    """The time that decisions are made by, and that is recorded: the machine's, but it never goes back or stands.

    Deadlines are differences of recorded times. Were the machine's clock put back by an hour, none would come for
    that hour. This time goes on instead, at nine tenths of its pace until the machine's clock has come up to it: it
    is right again ten times as long after, and a deadline comes a ninth late at most.
    """

    def __init__(self, wall: Callable[[], Instant] = now, steadily: Callable[[], Instant] = steady) -> None:
        self._wall = wall
        self._steadily = steadily
        self._begin(wall())

    def __call__(self) -> Instant:
        """Return the time, in microseconds since 1970."""
        wall, reached = self._wall(), self._reached()
        if wall >= reached:
            self._begin(wall)
            return wall
        return reached

    def not_before(self, at: Instant) -> None:
        """Be at *at* or later from now on: something has been recorded at that time."""
        if at > self():
            self._begin(at)

    def ahead(self) -> Duration:
        """Return how far this time is ahead of the machine's clock; 0 where that was not put back."""
        return max(0, self() - self._wall())

    def _begin(self, at: Instant) -> None:
        self._anchor = at, self._steadily()  # at once: several threads ask

    def _reached(self) -> Instant:
        (at, since), (pace, of) = self._anchor, _SLOWED
        return at + max(0, self._steadily() - since) * pace // of
