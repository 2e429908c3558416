"""Folds of runs: asked for, launched, ended and removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stelae.core.folds.drift import of_run_over
from stelae.core.folds.table import folds
from stelae.core.owned import with_item
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.release import short_release
from stelae.domain.run import Run
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant

MOST = 100
"""So many runs that are over stay in the state beside those that have to; the oldest ones go. The record has them
all."""


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
    """The runs without the oldest that are over. What cannot be undone stays, because going back has to ask, and what
    the rollout under way has to know."""
    rollout = env.rollout.deployment if env.rollout is not None else None
    over = [
        run.id
        for run in env.runs.values()
        if run.removed and not run.irreversible and (not run.deployment or run.deployment != rollout)
    ]
    gone = set(over[: max(0, len(over) - MOST + 1)])  # with the one that is asked for now
    return {name: run for name, run in env.runs.items() if name not in gone}


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
