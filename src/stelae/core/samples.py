"""Samples: what a few looks at an environment tell of its load. Pure; nothing of it is recorded.

Counts only grow, so an interval is the difference of two looks. What is not known for certain (a router that began
to count anew, a look that is missing) is None, which is not "nothing": unknown is not idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stelae.core.target import live
from stelae.core.traffic import entry
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Observation, Phase
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.traffic import Traffic
from stelae.domain.units import MILLISECOND, SECOND, Duration, Instant

LONG: Duration = 10 * SECOND
"""The longest interval over which a load is measured."""

GAP: Duration = 5 * SECOND
"""Looks further apart than this tell nothing of the time in between."""


_NONE = Traffic()

CLOSE: Duration = 100 * MILLISECOND
"""Of looks that are this close to each other only some are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look. ``requests`` are those that are over, by release, None where nobody counts them; ``lost`` are
    releases that were counted before and are not in it, and ``routed`` those with traffic. ``open`` are the requests
    under way. ``cpu`` is the processor time of each instance that is ready, and ``ready`` how many there are, by
    process; of the one that ``takes`` the requests only those with traffic.
    """

    at: Instant
    requests: Mapping[ReleaseId, Traffic] | None
    lost: frozenset[ReleaseId] = frozenset()
    routed: frozenset[ReleaseId] = frozenset()
    open: int = 0
    takes: str = ""
    cpu: Mapping[str, Mapping[InstanceId, Duration]] = field(default_factory=dict)
    ready: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What happened between two looks that are ``span`` apart."""

    span: Duration
    first: Sample
    last: Sample

    def requests(self) -> int | None:
        """Return how many requests came; None when that cannot be told."""
        before, after = self.first.requests, self.last.requests
        if before is None or after is None:
            return None
        if (self.first.lost | self.last.lost) & (self.last.routed | after.keys()):
            return None  # one that gets requests is counted no more, or is again and nobody knows since when
        over = 0
        for name in {*before, *after}:
            more = after.get(name, _NONE).since(before.get(name, _NONE))
            if more is None:
                return None
            over += more.requests
        return max(0, over + self.last.open - self.first.open)

    def cpu(self, process: str) -> tuple[Duration, int]:
        """Return the processor time that instances of *process* used, and of how many that is known: those that were
        ready all the time. What an instance uses to start says nothing of the load."""
        before, after = self.first.cpu.get(process, {}), self.last.cpu.get(process, {})
        used = [after[name] - before[name] for name in after if name in before and after[name] >= before[name]]
        return sum(used), len(used)


@dataclass(frozen=True, slots=True)
class Samples:
    """The looks of the last seconds, oldest first."""

    kept: tuple[Sample, ...] = ()

    @property
    def last(self) -> Sample | None:
        """The newest look."""
        return self.kept[-1] if self.kept else None

    def and_(self, env: EnvironmentState, seen: Observation, *, counted: bool) -> Samples:
        """Return these and the look *seen*; *counted* says that the platform counts requests. A look that is not
        newer than the last one (the clock was set back) begins anew."""
        last = self.last
        if last is not None and seen.as_of == last.at:
            return self
        if last is not None and not 0 < seen.as_of - last.at <= GAP:
            last = None
        sample = _sample(env, seen, last, counted=counted)
        if last is None:
            return Samples((sample,))
        kept = self.kept
        if len(kept) > 1 and sample.at - kept[-2].at < CLOSE:
            kept = kept[:-1]
        # One that is older than the longest interval is kept to begin it with.
        old = [item for item in kept if item.at <= sample.at - LONG]
        young = [item for item in kept if item.at > sample.at - LONG]
        return Samples((*old[-1:], *young, sample))

    def over(self, span: Duration) -> Interval | None:
        """Return the shortest interval up to the last look that is at least *span* long, None when there is none."""
        last = self.last
        for first in reversed(self.kept):
            assert last is not None
            if last.at - first.at >= span:
                return Interval(span=last.at - first.at, first=first, last=last)
        return None


def _sample(env: EnvironmentState, seen: Observation, before: Sample | None, *, counted: bool) -> Sample:
    takes = _takes(env)
    cpu: dict[str, dict[InstanceId, Duration]] = {}
    ready: dict[str, int] = {}
    routed: set[ReleaseId] = set()
    for instance in _working(env, seen, takes):
        ready[instance.process] = ready.get(instance.process, 0) + 1
        if instance.process == takes:
            routed.add(instance.release)
        used = seen.instances[instance.id].cpu
        if used is not None:
            cpu.setdefault(instance.process, {})[instance.id] = used
    requests = {name: Traffic(requests=of.requests, began=of.began) for name, of in seen.traffic.items()}
    known = {*(before.requests or ()), *before.lost} if before is not None else set()
    return Sample(
        at=seen.as_of,
        requests=requests if counted else None,
        lost=frozenset(known - requests.keys()),
        routed=frozenset(routed),
        open=sum(view.connections for view in seen.instances.values()),
        takes=takes,
        cpu=cpu,
        ready=ready,
    )


def _takes(env: EnvironmentState) -> str:
    name = env.stable or (env.rollout.candidate if env.rollout else None)
    process = entry(env.releases[name]) if name else None
    return process.name if process else ""


def _working(env: EnvironmentState, seen: Observation, takes: str) -> Iterator[Instance]:
    for instance in env.instances.values():
        view = seen.instances.get(instance.id)
        if view is None or view.phase is not Phase.READY or not live(instance) or instance.ready_at is None:
            continue
        if instance.process != takes or instance.id in seen.table:
            yield instance
