"""Drift: what an inspection adds to the record. Pure.

Nothing is said of what an inspection did not look at, and nothing is concluded from one that is older than what it
speaks of (law 11). What is done about it is in ``stelae.core.replacing``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stelae.core import replacing
from stelae.core.evolve import evolve
from stelae.core.replacing import policy, runs_now
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Answer, Drift, Finding, Inspection
from stelae.domain.event import Event
from stelae.domain.run import Run
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant

MOST_FINDINGS = 20
"""So many differences of an instance are recorded, and as many of the whole environment: more say nothing new."""

MOST_LINES = 20
LONGEST = 400
"""What is recorded of one: even with six bytes for a character (a control character in JSON) it fits into an entry of
the record, which takes 65,535 bytes."""

Events = tuple[Event, ...]

Key = tuple[InstanceId, Drift, str]
"""What makes a difference the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What an inspection that was *asked* for then *found*. ``began`` is the state for which it was made; a
    ``thorough`` one read every byte."""

    began: EnvironmentState
    asked: Instant
    found: Inspection
    thorough: bool = False

    @property
    def stale(self) -> bool:
        """True for one that was made before it was asked for: it says nothing."""
        return self.found.as_of < self.asked


def may_be_inspected(env: EnvironmentState) -> bool:
    """True while something runs that could drift, or something is not over of which no instance ends it."""
    running = any(map(runs_now, env.instances.values())) or any(map(run_goes_on, env.runs.values()))
    return running or bool(env.drift.findings)


def events(env: EnvironmentState, sweep: Sweep, now: Instant) -> Events:
    """Return what *sweep* adds to the record of *env* as it is now."""
    if sweep.stale:
        return ()
    news = [*_found(env, sweep), *_ended(env, sweep)]
    for event in news:
        env = evolve(env, event, now)
    storm = replacing.storm(env, now)
    if storm is not None and env.drift.storm is None:
        news.append(ev.DriftStorm(found=storm.found, of=storm.of))
    return tuple(news)


def _found(env: EnvironmentState, sweep: Sweep) -> Iterator[Event]:
    known = recorded(env)
    counts = Counter(name for name, _, _ in known)
    for key, finding in _told(sweep).items():
        name, drift, what = key
        if key not in known and counts[name] < MOST_FINDINGS and _looked_at(env, sweep, name):
            counts[name] += 1
            yield ev.DriftFound(instance=name, drift=drift, what=what, evidence=_cut(finding.evidence))


def _ended(env: EnvironmentState, sweep: Sweep) -> Iterator[Event]:
    told = _told(sweep)
    for key, since in recorded(env).items():
        name, drift, what = key
        seen = drift is not Drift.LAYER or sweep.thorough  # only who reads every byte knows that none differs
        seen = seen and not (drift is Drift.ROUTING and sweep.found.routing_missed)
        if key not in told and since <= sweep.asked and seen and _may_end(env, name) and _looked_at(env, sweep, name):
            yield ev.DriftEnded(instance=name, drift=drift, what=what)


def _told(sweep: Sweep) -> Mapping[Key, Finding]:
    return {(item.instance, item.kind, item.what[:LONGEST]): item for item in sweep.found.findings}


def recorded(env: EnvironmentState) -> Mapping[Key, Instant]:
    """Return the differences that are recorded and not over, and since when."""
    own = ((i.id, item) for i in env.instances.values() for item in i.drift)
    return {
        (name, item.drift, item.what): item.since
        for name, item in (*own, *((item.instance, item) for item in env.drift.findings))
    }


def _cut(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line[:LONGEST] for line in lines[:MOST_LINES])


def _looked_at(env: EnvironmentState, sweep: Sweep, name: InstanceId) -> bool:
    """True when *sweep* says of *name*, as things are now, what differs: all that was known and ran when it began,
    and runs still. An id is used once, so it is of the same instance."""
    if name == "":
        return _is_undisturbed(env, sweep.began)
    if name not in sweep.found.inspected:
        return False
    return all(runs(state, name) for state in (env, sweep.began))


def runs(env: EnvironmentState, name: InstanceId) -> bool:
    """True for an instance or a run that was launched, has not ended, and was not asked to end."""
    instance, run = env.instances.get(name), env.runs.get(name)
    if run is not None:
        return run_goes_on(run)
    return instance is not None and runs_now(instance)


def run_goes_on(run: Run) -> bool:
    """True for a run that was launched, is not over, and was not asked to end; not for a debug session, in which a
    person may do anything."""
    return run.started and run.outcome is None and run.stopped_at is None and run.debug is None


def _is_undisturbed(env: EnvironmentState, began: EnvironmentState) -> bool:
    """True when no act was under way or intended from when an inspection began until now: what is launched in between
    is explained by no event that the inspection knew, and a table that is being set differs from the one before."""
    return not began.pending and (env.actions, env.applied) == (began.actions, began.applied)


def _may_end(env: EnvironmentState, name: InstanceId) -> bool:
    """Where drifted instances are replaced, one stays so: nobody knows what was done to it meanwhile."""
    return name not in env.instances or policy(env).answer is Answer.REPORT
