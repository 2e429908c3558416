"""Folds of what people do to a rollout that is under way, and of what it asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stelae.core import clocks
from stelae.core.folds.table import folds
from stelae.domain import event as ev
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.units import Instant


@folds(ev.PersonAwaited)
def _asked(env: EnvironmentState, event: ev.PersonAwaited, at: Instant, actor: str) -> EnvironmentState:
    def change(rollout: Rollout) -> Rollout:
        if not event.reason:
            return clocks.answered(rollout, at)
        since = at if rollout.asks_since is None else rollout.asks_since
        return replace(rollout, asks=event.reason, asks_since=since)

    return _changed(env, event.deployment, change)


@folds(ev.GateOpened)
def _opened(env: EnvironmentState, event: ev.GateOpened, at: Instant, actor: str) -> EnvironmentState:
    return _changed(env, event.deployment, lambda it: replace(clocks.answered(it, at), opened=event.step))


@folds(ev.RolloutHurried)
def _hurried(env: EnvironmentState, event: ev.RolloutHurried, at: Instant, actor: str) -> EnvironmentState:
    return _changed(env, event.deployment, lambda it: replace(clocks.resumed(it, at), hurried=True))


@folds(ev.RolloutPaused)
def _paused(env: EnvironmentState, event: ev.RolloutPaused, at: Instant, actor: str) -> EnvironmentState:
    def change(rollout: Rollout) -> Rollout:
        if rollout.paused_at is not None:
            return rollout
        return replace(clocks.answered(rollout, at), paused_at=at, paused_by=actor)

    return _changed(env, event.deployment, change)


@folds(ev.RolloutResumed)
def _resumed(env: EnvironmentState, event: ev.RolloutResumed, at: Instant, actor: str) -> EnvironmentState:
    return _changed(env, event.deployment, lambda it: clocks.resumed(it, at))


def _changed(env: EnvironmentState, deployment: str, change: Callable[[Rollout], Rollout]) -> EnvironmentState:
    """A rollout that goes back is nobody's to hold or to hurry."""
    rollout = env.rollout
    if rollout is None or rollout.deployment != deployment or rollout.phase is Phase.REVERTING:
        return env
    return replace(env, rollout=change(rollout))
