"""Timers: the next point in time at which the same facts may give another decision."""

from __future__ import annotations

from collections.abc import Iterator

from stelae.core import analysis, backoff, deadlines, gates
from stelae.core.target import given_up_at
from stelae.domain.job import GRACE
from stelae.domain.run import Run
from stelae.domain.state import EnvironmentState, Instance, Phase
from stelae.domain.units import MINUTE, SECOND, Instant

KILL_AGAIN = 5 * SECOND
"""An instance that survives SIGKILL (in an uninterruptible wait) is killed again after this, then more slowly."""

KILL_AT_LEAST_EVERY = 10 * MINUTE


def kill_again_at(stopped_at: Instant, killed_at: Instant) -> Instant:
    """Return when an instance that was killed at *killed_at* and is still there is killed again."""
    return killed_at + min(KILL_AT_LEAST_EVERY, max(KILL_AGAIN, killed_at - stopped_at))


def next_wake(env: EnvironmentState, now: Instant) -> Instant | None:
    """Return the earliest deadline after *now*, or None when only a change can matter."""
    looks = (analysis.next_look(env, now),)
    return min((at for at in (*looks, *_deadlines(env)) if at is not None and at > now), default=None)


def _deadlines(env: EnvironmentState) -> Iterator[Instant]:
    yield from env.warm.values()
    yield from (pause.until for pause in env.backoff.values())
    rollout = env.rollout
    if rollout is not None:
        yield deadlines.deadline(env, rollout).at
        if rollout.phase is Phase.WAITING and env.freeze is not None:
            yield env.freeze.ends
        if rollout.held_at is not None and rollout.paused_at is None:
            yield rollout.held_at + gates.soak(env, rollout)
        if rollout.unreachable_since is not None:
            yield rollout.unreachable_since + rollout.strategy.platform
    for instance in env.instances.values():
        yield from _of(env, instance)
    for run in env.runs.values():
        if run.outcome is None:
            yield from _of_run(run)


def _of(env: EnvironmentState, instance: Instance) -> Iterator[Instant]:
    if instance.exit is not None:
        return
    rollout = env.rollout
    moving = rollout is not None and rollout.phase is Phase.FORWARD and instance.release == rollout.candidate
    if not moving and _is_settled(instance):
        return
    process = env.releases[instance.release].process(instance.process)
    if process is None:
        return
    if instance.stopped_at is not None:
        yield instance.stopped_at + process.stop
        if instance.killed_at is not None:
            yield kill_again_at(instance.stopped_at, instance.killed_at)
    if instance.drained_at is not None:
        yield instance.drained_at + process.drain
    if rollout is not None and moving and instance.ready_at is not None:
        yield instance.ready_at + rollout.strategy.min_healthy
    if instance.unready_at is not None:
        yield instance.unready_at + backoff.hold(instance.flaps)
    limit = given_up_at(env, instance)
    if limit is not None:
        yield limit


def _of_run(run: Run) -> Iterator[Instant]:
    yield (run.requested_at if run.launched_at is None else run.launched_at) + run.timeout
    if run.stopped_at is not None:
        yield run.stopped_at + GRACE
        if run.killed_at is not None:
            yield kill_again_at(run.stopped_at, run.killed_at)


def _is_settled(instance: Instance) -> bool:
    """True for one that serves and for which nothing is waited for: nearly all are, nearly always."""
    return instance.ready_at is not None and instance.drained_at is None and instance.stopped_at is None
