"""Coverage: of which time it is recorded that somebody looked, and which times are missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.units import Duration, Instant
from stelae.domain.watch import WHOLE, Gap

UNWATCHED = "no controller looked, or what it saw was never recorded"
UNINSPECTED = "nothing was inspected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Of ``whole``, a time, all but the ``gaps`` was observed."""

    whole: Duration
    gaps: tuple[Gap, ...] = ()

    @property
    def missing(self) -> Duration:
        """How long nobody looked."""
        return sum(gap.until - gap.since for gap in self.gaps)

    @property
    def share(self) -> int:
        """The share that was observed, in basis points, rounded down: all of it is only what has no gap."""
        if self.whole <= 0:
            return 0 if self.gaps else 10_000
        return (self.whole - self.missing) * 10_000 // self.whole


def looks(watches: Iterable[ev.EnvironmentWatched], since: Instant, until: Instant) -> Coverage:
    """Return what *watches*, in their order, cover of the time from *since* to *until*."""
    return _coverage(((w.since, w.until, w.gaps) for w in watches), since, until, UNWATCHED)


def inspections(
    watches: Iterable[ev.EnvironmentWatched], instance: InstanceId, since: Instant, until: Instant
) -> Coverage:
    """Return in which of the time from *since* to *until* *instance* was inspected."""
    found = []
    for watch in watches:
        missed = [*watch.missed.get(WHOLE, ()), *watch.missed.get(instance, ())]
        if not watch.inspections:
            missed = [Gap(since=watch.since, until=watch.until, why=UNINSPECTED)]
        found.append((watch.since, watch.until, missed))
    return _coverage(found, since, until, UNWATCHED)


def _coverage(
    watches: Iterable[tuple[Instant, Instant, Sequence[Gap]]], since: Instant, until: Instant, why: str
) -> Coverage:
    gaps: list[Gap] = []
    reached = since
    for begin, end, own in watches:
        if end < since or begin > until:
            continue
        if begin > reached:
            gaps.append(Gap(since=reached, until=min(begin, until), why=why))
        gaps += own
        reached = max(reached, end)
    if reached < until:
        gaps.append(Gap(since=reached, until=until, why=why))
    return Coverage(whole=until - since, gaps=merged(gaps, since, until))


def merged(gaps: Iterable[Gap], since: Instant, until: Instant) -> tuple[Gap, ...]:
    """Return *gaps* within *since* and *until*, in order; those that meet or overlap are one."""
    found: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.since, gap.until)):
        begin, end = max(gap.since, since), min(gap.until, until)
        if begin >= end:
            continue
        if found and begin <= found[-1].until:
            last = found[-1]
            whys = list(dict.fromkeys(filter(None, (last.why, gap.why))))
            why = last.why if len(whys) < 2 or gap.why in last.why else "; ".join(whys)
            found[-1] = Gap(since=last.since, until=max(last.until, end), why=why or gap.why)
        else:
            found.append(Gap(since=begin, until=end, why=gap.why))
    return tuple(found)


def fewer(gaps: Sequence[Gap], most: int) -> tuple[Gap, ...]:
    """Return *gaps*, in order, as at most *most*: the first ones are told as one long gap where there are more."""
    if len(gaps) <= most:
        return tuple(gaps)
    first = gaps[: len(gaps) - most + 1]
    together = Gap(since=first[0].since, until=first[-1].until, why=f"{len(first)} gaps, told as one")
    return (together, *gaps[len(gaps) - most + 1 :])
