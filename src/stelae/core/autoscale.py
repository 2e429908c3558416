"""Automatic scaling: how many instances a process should have, from what it has to do. Pure.

It is target tracking: the count that would bring the measure of each instance to its target. Each look gives an
advice. The count goes up when all advices of the upper window, and two in a row, ask for more; it goes down when none
of the lower window asks for as many; and neither faster than the pace allows. What is not known is taken for as much
as there are instances for, so that it never lowers the count; nor does anything while a rollout is under way.

The memory is of one controller. When it is lost nothing is lowered until the windows have passed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from stelae.core import measure
from stelae.core.samples import GAP, Samples
from stelae.domain import event as ev
from stelae.domain.observation import Observation
from stelae.domain.scaling import Pace, Scaling
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND, Duration, Instant

QUIET: Duration = SECOND
"""Two changes are as far apart as this, unless the second one adds a quarter or more: the record is no log."""

Advices = tuple[tuple[Instant, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is remembered of one process. ``since`` is when the memory begins. ``highs`` are the advices that no later
    one exceeds and ``lows`` those that none falls below, oldest first; ``changes`` what was added, and when (below 0:
    taken). ``advice`` is the last one, ``before`` the one before it, and ``reason`` says in words what it goes by;
    ``enough`` is how many do for the last moment.
    """

    wanted: int
    since: Instant
    highs: Advices = ()
    lows: Advices = ()
    changes: Advices = ()
    advice: int = 0
    enough: int = 0
    before: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one environment."""

    samples: Samples = field(default_factory=Samples)
    courses: Mapping[str, Course] = field(default_factory=dict)


def remembered(memory: Memory, env: EnvironmentState, seen: Observation, *, counted: bool) -> Memory:
    """Return *memory* with the look *seen* at *env*; *counted* says that the platform counts requests.

    A look that is incomplete, or older than the last act, is left out. Where nothing is scaled there is no memory.
    """
    if not scaled(env):
        return Memory()
    if not seen.complete or seen.applied < env.applied:
        return memory
    samples = memory.samples.and_(env, seen, counted=counted)
    if samples is memory.samples:
        return memory
    gone = len(samples.kept) == 1  # nothing is known of the time before
    courses = {
        name: _course(None if gone else memory.courses.get(name), env, name, scaling, samples)
        for name, scaling in scaled(env).items()
    }
    return Memory(samples=samples, courses=courses)


def scaled(env: EnvironmentState) -> Mapping[str, Scaling]:
    """Return how the processes of *env* are scaled; nothing while it holds nothing."""
    if env.config is None or env.down or (env.stable is None and env.rollout is None):
        return {}
    return {name: scaling for name, scaling in env.config.scaling.items() if env.wanted.get(name)}


def decided(memory: Memory, env: EnvironmentState, now: Instant, *, more: bool = True) -> tuple[ev.Scaled, ...]:
    """Return what to record: new counts where they must change. Without *more* nothing is raised."""
    last = memory.samples.last
    if last is None or not 0 <= now - last.at <= GAP:
        return ()
    found = []
    for name, scaling in scaled(env).items():
        course = memory.courses.get(name)
        if course is None or course.wanted != env.wanted[name]:
            continue  # somebody changed it since the look
        count = _next(course, scaling, last.at)
        if count != course.wanted and (more if count > course.wanted else _may_lower(env)):
            found.append(ev.Scaled(process=name, count=count, reason=course.reason))
    return tuple(found)


def _may_lower(env: EnvironmentState) -> bool:
    """A rollout's steps are parts of what is wanted: taken away in the middle of it, it would be of both releases."""
    return env.rollout is None


def noted(memory: Memory, events: tuple[ev.Scaled, ...]) -> Memory:
    """Return *memory* after *events*, which it gave, were recorded."""
    courses, last = dict(memory.courses), memory.samples.last
    for event in events:
        course = courses[event.process]
        assert last is not None
        change = (last.at, event.count - course.wanted)
        courses[event.process] = replace(course, wanted=event.count, changes=(*course.changes, change))
    return replace(memory, courses=courses)


def busy(memory: Memory, env: EnvironmentState) -> bool:
    """True while a count may have to change soon: more than half of what a process is for has come in the last
    second, or it was just changed."""
    last = memory.samples.last
    return last is not None and any(
        (course.changes and last.at - course.changes[-1][0] < GAP)
        or measure.pressing(memory.samples, env, name, scaling)
        for name, scaling in scaled(env).items()
        if (course := memory.courses.get(name)) is not None
    )


def _course(before: Course | None, env: EnvironmentState, name: str, scaling: Scaling, samples: Samples) -> Course:
    last = samples.last
    assert last is not None
    if before is None or before.wanted != env.wanted[name]:  # a person set it: that holds for a whole window
        before = Course(wanted=env.wanted[name], since=last.at)
    found = measure.advice(samples, env, name, scaling)
    advice = _within(scaling, found.count)
    longest = max(scaling.up.period, scaling.down.period, QUIET)
    return replace(
        before,
        highs=(*_kept(before.highs, last.at - scaling.down.window, lambda old: old > advice), (last.at, advice)),
        lows=(*_kept(before.lows, last.at - scaling.up.window, lambda old: old < advice), (last.at, advice)),
        changes=tuple(item for item in before.changes if item[0] > last.at - longest),
        advice=advice,
        enough=found.enough,
        before=before.advice,
        reason=found.reason,
    )


def _kept(advices: Advices, after: Instant, still: Callable[[int], bool]) -> Advices:
    return tuple(item for item in advices if item[0] > after and still(item[1]))


def _next(course: Course, scaling: Scaling, at: Instant) -> int:
    """Return the count after *course*: as the windows say, not faster than the pace, and between the limits."""
    wanted = course.wanted
    up = min(count for _, count in course.lows)
    down = max(count for _, count in course.highs)
    if up > wanted and course.before > wanted and at - course.since >= scaling.up.window:
        count = _no_faster(course, scaling.up, at, up)
    elif down < wanted and at - course.since >= scaling.down.window:
        count = max(_no_faster(course, scaling.down, at, down), min(course.enough, wanted))
    else:
        return wanted
    count = _within(scaling, count)
    quick = bool(course.changes) and at - course.changes[-1][0] < QUIET
    return wanted if quick and count * 4 < wanted * 5 else count


def _within(scaling: Scaling, count: int) -> int:
    return min(max(count, scaling.least), scaling.most)


def _no_faster(course: Course, pace: Pace, at: Instant, count: int) -> int:
    """Return *count*, or as much of the way to it as *pace* allows at *at*."""
    if not pace.share and not pace.count:
        return count
    up = count > course.wanted
    done = sum(change for when, change in course.changes if when > at - pace.period and (change > 0) is up)
    began = course.wanted - done
    share = began * pace.share
    if up:
        return min(count, max(course.wanted, began + max(pace.count, -(-share // 100))))
    least = max(1, share // 100) if pace.share else 0
    return max(count, min(course.wanted, began - max(pace.count, least)))
