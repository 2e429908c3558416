"""Folds of runs: asked for, launched, ended and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stelae.core.folds.drift import of_run_over
from stelae.core.folds.table import folds
from stelae.core.owned import with_item
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.release import short_release
from stelae.domain.run import Run
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant

MOST = 100
"""So many runs that are over stay in the state, and so many that cannot be undone; the oldest ones go. The record has
them all."""


@folds(ev.RunRequested)
def _requested(env: EnvironmentState, event: ev.RunRequested, at: Instant, actor: str) -> EnvironmentState:
    run = Run(
        id=event.run, release=event.release, job=event.job, command=event.command, actor=event.by or actor,
        requested_at=at, timeout=event.timeout, irreversible=event.irreversible, deployment=event.deployment,
        step=event.step, key=event.key, debug=event.debug,
    )  # fmt: skip
    short = short_release(event.release)
    return replace(
        env,
        runs={**_kept(env), run.id: run},
        launches=with_item(env.launches, short, env.launches.get(short, 0) + 1),
    )


def _kept(env: EnvironmentState) -> Mapping[InstanceId, Run]:
    """The runs without the oldest that are over. What the rollout under way has to know stays."""
    rollout = env.rollout.deployment if env.rollout is not None else None
    over = [run for run in env.runs.values() if run.removed and (not run.deployment or run.deployment != rollout)]
    lasting = [run for run in over if run.irreversible and run.took_place]
    passing = [run for run in over if not (run.irreversible and run.took_place)]
    gone = {run.id for run in (*passing[: 1 - MOST], *_told_by_newer(env, lasting))}  # with the one asked for now
    return {name: run for name, run in env.runs.items() if name not in gone}


def _told_by_newer(env: EnvironmentState, runs: Sequence[Run]) -> Iterator[Run]:
    """Those of *runs*, which cannot be undone, oldest first, that no way back has to name.

    A way back to an image asks where there is a run of another image that is newer than it. So the newest run stays,
    and the newest of another image than that one's: one of the two is newer whenever any is.
    """
    others = (run for run in reversed(runs) if _image(env, run) != _image(env, runs[-1]))
    asks = next(others, None)
    yield from (run for run in runs[: 1 - MOST] if run is not asks)


def _image(env: EnvironmentState, run: Run) -> Digest:
    return env.releases[run.release].image


@folds(ev.RunEnding)
def _ending(env: EnvironmentState, event: ev.RunEnding, at: Instant, actor: str) -> EnvironmentState:
    known = env.runs.get(event.run)
    if known is None or known.outcome is not None or known.ending is not None:
        return env
    return _of_run(env, event.run, ending=event.outcome, reason=event.reason)


@folds(ev.RunEnded)
def _ended(env: EnvironmentState, event: ev.RunEnded, at: Instant, actor: str) -> EnvironmentState:
    known = env.runs.get(event.run)
    if known is None or known.outcome is not None:
        return env
    env = of_run_over(env, event.run)
    return _of_run(
        env, event.run, outcome=event.outcome, reason=event.reason, exit=event.exit, ended_at=at,
        removed=known.launched_at is None,
    )  # fmt: skip


def intended(env: EnvironmentState, action: Action, at: Instant) -> EnvironmentState:
    """Return *env* when *action* on a run is intended at *at*: from then on its launch counts as tried."""
    times = {Verb.LAUNCH: "launched_at", Verb.STOP: "stopped_at", Verb.KILL: "killed_at"}
    field = times.get(action.verb)
    return env if field is None else _of_run(env, action.instance, **{field: at})


def done(env: EnvironmentState, action: Action, error: str, unsure: bool) -> EnvironmentState:
    """Return *env* when *action* on a run has its outcome; *unsure* of a launch that failed and may have happened."""
    if action.verb is Verb.LAUNCH:
        if error and not unsure:
            return _of_run(env, action.instance, failed=error)
        return _of_run(env, action.instance, started=True, doubt=error)
    if action.verb is Verb.REMOVE and not error:
        return _of_run(env, action.instance, removed=True)
    return env


def _of_run(env: EnvironmentState, name: InstanceId, **changes: Any) -> EnvironmentState:
    known = env.runs.get(name)
    return env if known is None else replace(env, runs=with_item(env.runs, name, replace(known, **changes)))
