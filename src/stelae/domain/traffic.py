"""Traffic: what a router counted of the requests that a release answered. Counts only grow, so that any interval is
the difference of two looks, until the router begins to count anew."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.units import MILLISECOND, SECOND, Duration

BOUNDS: tuple[Duration, ...] = (
    *(n * MILLISECOND for n in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700)),
    *(n * SECOND for n in (1, 2, 3, 5, 7, 10, 15, 20, 30, 60)),
)
"""Upper bounds of the buckets of latencies: ``Traffic.latency[i]`` counts those above ``BOUNDS[i - 1]`` and at most
``BOUNDS[i]``; the last bucket, one more than there are bounds, those above all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of one release that are over. ``errors`` are those among ``requests`` that the release answered with a
    status of 500 or more, or not at all; one that the client gave up is no error. ``latency`` has a count for each
    bucket of ``BOUNDS``, from when the request's head was complete to the end of the answer's head, those without an
    answer left out; () means none. ``began`` names the counting: counts of two countings have nothing in common (0:
    nothing was counted yet, or a platform that never counts anew).
    """

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    began: int = 0

    def since(self, before: Traffic) -> Traffic | None:
        """Return what was counted after *before*; None when the counts began anew in between."""
        if before.began not in (0, self.began):
            return None
        if before.latency and self.latency and len(before.latency) != len(self.latency):
            return None  # the buckets were others, before an upgrade
        older = before.latency or (0,) * len(self.latency)
        newer = self.latency or (0,) * len(older)
        latency = tuple(new - old for new, old in zip(newer, older, strict=True))
        requests, errors = self.requests - before.requests, self.errors - before.errors
        if min((requests, errors, *latency)) < 0:
            return None
        return Traffic(requests=requests, errors=errors, latency=latency, began=self.began)
