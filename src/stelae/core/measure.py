"""Measures: what the present load asks for, by each target that a process has. Pure.

Requests are counted over the last quarter of a second and the last second, so that a load that jumps is answered at
once, and over ten. That many come is believed where it can hardly be chance: requests that come on their own differ
from time to time by the root of their number, so six such roots (over a second three, over ten two) are taken off
first. Processor time is measured over three seconds and over ten, of instances that were ready all the time.

Instances that are wanted and not ready, or of which nothing is known, count as if they did what they are for when the
count might go down, and as if they did nothing when it might go up: nothing is scaled by what nobody measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt

from stelae.core.samples import GAP, LONG, Interval, Sample, Samples
from stelae.domain.scaling import Scaling
from stelae.domain.state import EnvironmentState
from stelae.domain.units import MILLISECOND, SECOND, Duration

SHORT: Duration = 900 * MILLISECOND
"""A second, less what two looks of half a second each may be apart too little."""

REQUESTS = ((225 * MILLISECOND, 6), (SHORT, 3), (LONG, 2))
"""Over how long requests are counted, and how many roots of their number are taken off."""

PROCESSOR = (3 * SECOND, LONG)

_CORE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """How many instances the load asks for, and what it is, in words; and how many are enough for the last moment:
    a load that has just begun to rise shows there first."""

    count: int
    reason: str = ""
    enough: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What there was to do over ``span``: ``amount / (each * span)`` instances' work. ``sure`` is the part of it that
    is no chance, and ``unknown`` how many of the wanted instances are not in it."""

    amount: int
    sure: int
    each: int
    span: Duration
    unknown: int = 0
    reason: str = ""

    @property
    def count(self) -> int:
        """How many instances this is for."""
        return -(-self.amount // (self.each * self.span))

    def enough(self, percent: int) -> int:
        """The fewest instances for which it is at most *percent* of what they are for."""
        return -(-self.amount * 100 // (self.each * self.span * percent))

    def exceeds(self, wanted: int, percent: int) -> bool:
        """True when it is certainly more than *percent* of what *wanted* instances are for."""
        return self.sure * 100 > wanted * self.each * self.span * percent

    def is_below(self, wanted: int, percent: int) -> bool:
        """True when it is less than *percent* of what *wanted* instances are for."""
        return self.amount * 100 < wanted * self.each * self.span * percent


def advice(samples: Samples, env: EnvironmentState, name: str, scaling: Scaling) -> Advice:
    """Return what the load asks of process *name* now; as many as are wanted where that is not known. Of several
    targets the one that asks for most counts."""
    wanted = env.wanted[name]
    calm = [Advice(count=0)]
    found = [Advice(count=0)]
    enough = 0
    for lately, slow in _loads(samples, env, name, scaling):
        for load in lately:
            if load is not None and load.exceeds(wanted, 100 + scaling.tolerance):
                found.append(Advice(count=load.count, reason=load.reason))
        moment = lately[-2]
        enough = max(enough, moment.enough(100 + scaling.tolerance) if moment is not None else 0)
        if slow is None:
            calm.append(Advice(count=wanted))
        elif slow.is_below(wanted, 100 - scaling.tolerance):
            calm.append(Advice(count=min(wanted, slow.count + slow.unknown), reason=slow.reason))
        else:
            calm.append(Advice(count=wanted, reason=slow.reason))
    most = max(found, key=lambda item: item.count)
    told = most if most.count > wanted else max(calm, key=lambda item: item.count)
    return replace(told, enough=enough)


def pressing(samples: Samples, env: EnvironmentState, name: str, scaling: Scaling) -> bool:
    """True while a process has had more than half of what its instances are for to do lately."""
    found = _loads(samples, env, name, scaling)
    lately = [load for loads, _ in found for load in loads[:-1] if load is not None]
    return any(not load.is_below(env.wanted[name], 50) for load in lately)


_Loads = tuple[list[_Load | None], _Load | None]
"""The load over short intervals and over the longest one, by which a count goes up, and over the one by which it goes
down: that is no longer than the window in which it is judged."""


def _loads(samples: Samples, env: EnvironmentState, name: str, scaling: Scaling) -> Iterator[_Loads]:
    """What each target measures."""
    last = samples.last
    if last is None:
        return
    calm = min(LONG, max(SHORT, scaling.down.window))
    if scaling.target_rps:
        *lately, slow = (
            _requests(_fresh(samples, span), last, env.wanted[name], name, scaling, roots)
            for span, roots in (*REQUESTS, (calm, 0))
        )
        yield lately, slow
    if scaling.target_cpu:
        *lately, slow = (_processor(_fresh(samples, span), env, name, scaling) for span in (*PROCESSOR, calm))
        yield lately, slow


def _fresh(samples: Samples, span: Duration) -> Interval | None:
    found = samples.over(span)
    return found if found is not None and found.span <= span + GAP else None


def _requests(
    interval: Interval | None, last: Sample, wanted: int, name: str, scaling: Scaling, roots: int
) -> _Load | None:
    came = interval.requests() if interval is not None and last.takes == name else None
    if interval is None or came is None:
        return None
    rate = came * SECOND // interval.span
    return _Load(
        amount=came * SECOND,
        sure=max(0, came - roots * isqrt(came)) * SECOND,
        each=scaling.target_rps,
        span=interval.span,
        unknown=max(0, wanted - last.ready.get(name, 0)),
        reason=f"{rate:,} requests a second, target {scaling.target_rps:,} each",
    )


def _processor(interval: Interval | None, env: EnvironmentState, name: str, scaling: Scaling) -> _Load | None:
    if interval is None:
        return None
    used, measured = interval.cpu(name)
    if not measured:
        return None
    limit = _limit(env, name)
    percent = used * _CORE * 100 // (limit * interval.span * measured)
    amount = used * _CORE * 100
    return _Load(
        amount=amount,
        sure=amount,
        each=limit * scaling.target_cpu,
        span=interval.span,
        unknown=max(0, env.wanted[name] - measured),
        reason=f"{percent} % of the processor each, target {scaling.target_cpu} %",
    )


def _limit(env: EnvironmentState, name: str) -> int:
    """The processor time that an instance may use, in thousandths of a core."""
    release = env.stable or (env.rollout.candidate if env.rollout else None)
    process = env.releases[release].process(name) if release else None
    return (process.cpu if process else 0) or _CORE
