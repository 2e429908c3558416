"""The law of watches: none claims a time in which nobody looked."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

from stelae.domain import event as ev
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Observation
from stelae.domain.units import Instant


class WatchLaws:
    """Knows when controllers looked, and judges what they recorded of it."""

    def __init__(self) -> None:
        self._looks: dict[EnvironmentId, list[Instant]] = {}

    def looked(self, environment: EnvironmentId, seen: Observation) -> None:
        """A controller saw all of *environment*, at the time of its own clock."""
        if seen.complete:
            looks = self._looks.setdefault(environment, [])
            looks.insert(bisect_right(looks, seen.as_of), seen.as_of)

    def broken(self, environment: EnvironmentId, event: ev.Event) -> str:
        """Return the law that *event* breaks, "" for none."""
        if not isinstance(event, ev.EnvironmentWatched):
            return ""
        looks, since = self._looks.get(environment, []), event.since
        for gap in (*event.gaps, None):
            until = event.until if gap is None else gap.since
            found = looks[bisect_left(looks, since) : bisect_right(looks, until)]
            if not found or found[0] != since or found[-1] != until:
                return f"a watch of {environment} begins or ends without a look"
            longest = max((b - a for a, b in pairwise(found)), default=0)
            if longest > event.bound:
                return f"a watch of {environment} claims {longest / 1e6:g} s in which nobody looked"
            since = event.until if gap is None else gap.until
        return ""
