"""What is measured of a release's traffic: which of its requests were bad, and how that is told. Pure.

Everything is a share of requests: those that failed, and, for a limit of a percentile, those slower than it. "p99
over 500 ms" is "more than 1 % of the requests took longer than 500 ms". Latencies are counted in buckets: a limit
between two bounds counts as the next higher one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from stelae.core.sequential import Sample
from stelae.domain.strategy import Analysis
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.domain.units import MILLISECOND, SECOND, Duration

ERRORS = "errors"

_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))

_MORE = 1.5
"""A share up to so many times the old release's is not worse in practice …"""

_LEAST_MORE = 0.001
"""… plus this for errors, and a tenth of what the limit lets through for latencies (0.001 for a p99)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """``allowed`` is the share of requests that may be bad (0: no limit); slower than ``bound`` is bad (0: the metric
    is of errors). ``spare`` is by how much a share may differ from the old release's."""

    name: str
    allowed: float
    bound: Duration = 0
    spare: float = _LEAST_MORE

    def sample(self, traffic: Traffic) -> Sample:
        """Return how many requests of *traffic* were bad; requests without an answer have no latency."""
        if not self.bound:
            return Sample(traffic.errors, traffic.requests)
        slow = traffic.latency[bisect_left(BOUNDS, self.bound) + 1 :]
        return Sample(sum(slow), sum(traffic.latency))

    def tolerated(self, new: Sample, old: Sample) -> bool:
        """True when *new* is not worse than *old* by more than matters in practice."""
        return new.share <= _MORE * old.share + self.spare

    def told(self, traffic: Traffic) -> str:
        """Return its value in words, as in ``0.02 %`` or ``41 ms``."""
        if not self.bound:
            return percent(Sample(traffic.errors, traffic.requests).share)
        return latency(traffic, dict(_PERCENTILES)[self.name])

    def limit(self) -> str:
        """Return its limit in words."""
        return duration(BOUNDS[bisect_left(BOUNDS, self.bound)]) if self.bound else percent(self.allowed)


def judged(analysis: Analysis) -> Iterator[Metric]:
    """Return what *analysis* judges: errors, and each percentile that has a limit."""
    yield Metric(name=ERRORS, allowed=analysis.error_rate / 1_000_000)
    for (name, part), bound in zip(_PERCENTILES, (analysis.p50, analysis.p95, analysis.p99), strict=True):
        if 0 < bound <= BOUNDS[-1]:
            yield Metric(name=name, allowed=1 - part, bound=bound, spare=(1 - part) / 10)


def latency(traffic: Traffic, part: float) -> str:
    """Return the latency that *part* of the requests kept within, in words; within a bucket it is taken to grow
    evenly."""
    left = part * sum(traffic.latency)
    for number, count in enumerate(traffic.latency):
        if count and left <= count:
            if number == len(BOUNDS):
                break
            low = BOUNDS[number - 1] if number else 0
            return duration(round(low + (BOUNDS[number] - low) * left / count))
        left -= count
    return f"over {duration(BOUNDS[-1])}" if sum(traffic.latency) else "unknown"


def percent(share: float) -> str:
    """Return *share* as percent with as many digits as matter."""
    value = 100 * share
    return f"{value:.2f} %" if 0 < value < 1 else f"{value:.3g} %"


def duration(value: Duration) -> str:
    """Return *value* as a person reads it."""
    if value >= 10 * SECOND:
        return f"{value / SECOND:.0f} s"
    if value >= SECOND:
        return f"{value / SECOND:.3g} s"
    return f"{max(1, round(value / MILLISECOND))} ms"
