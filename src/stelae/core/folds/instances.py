"""Folds of what is seen of instances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.core import backoff, replacing, verification
from stelae.core.folds.table import folds
from stelae.core.owned import changed, with_item, without
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant

LOST = Exit(code=-1, at=0)
"""How an instance ended that the platform knows nothing of any more."""


@folds(ev.InstanceReady)
def _ready(env: EnvironmentState, event: ev.InstanceReady, at: Instant, actor: str) -> EnvironmentState:
    return of_instance(env, event.instance, ready_at=at, ever_ready=True, unready_at=None)


@folds(ev.InstanceUnready)
def _unready(env: EnvironmentState, event: ev.InstanceUnready, at: Instant, actor: str) -> EnvironmentState:
    known = env.instances.get(event.instance)
    if known is None:
        return env
    env = verification.upset(env, known.release, at)
    calm = known.ready_at is not None and at - known.ready_at >= backoff.STABLE_AFTER
    return of_instance(env, known.id, ready_at=None, unready_at=at, flaps=1 if calm else known.flaps + 1)


@folds(ev.InstanceExited)
def _exited(env: EnvironmentState, event: ev.InstanceExited, at: Instant, actor: str) -> EnvironmentState:
    return _over(env, event.instance, event.exit, at)


@folds(ev.InstanceLost)
def _lost(env: EnvironmentState, event: ev.InstanceLost, at: Instant, actor: str) -> EnvironmentState:
    return _over(env, event.instance, replace(LOST, at=at), at)


@folds(ev.InstanceSeen)
def _seen(env: EnvironmentState, event: ev.InstanceSeen, at: Instant, actor: str) -> EnvironmentState:
    if event.instance in env.instances:
        return env
    seen = Instance(id=event.instance, release=event.release, process=event.process, launched_at=at, started=True)
    return changed(env, instances=with_item(env.instances, seen.id, seen))


@folds(ev.InstanceEnding)
def _ending(env: EnvironmentState, event: ev.InstanceEnding, at: Instant, actor: str) -> EnvironmentState:
    known = env.instances.get(event.instance)
    if known is None or known.stopped_at is not None:
        return env
    env = given_up(env, known, at)
    if event.unasked:
        env = verification.upset(env, known.release, at)
    return of_instance(env, known.id, stopped_at=at)


@folds(ev.InstanceGone)
def _gone(env: EnvironmentState, event: ev.InstanceGone, at: Instant, actor: str) -> EnvironmentState:
    return changed(env, instances=without(env.instances, event.instance))


def given_up(env: EnvironmentState, instance: Instance, at: Instant) -> EnvironmentState:
    """Count that *instance* is ended because it was condemned, where that is news."""
    if instance.id in env.allocation.condemned and not replacing.is_counted(env, instance):
        return ended_unasked(env, instance, at)
    return env


def _over(env: EnvironmentState, name: InstanceId, exit_: Exit, at: Instant) -> EnvironmentState:
    known = env.instances.get(name)
    if known is None or known.exit is not None:
        return env
    env = of_instance(env, name, exit=exit_, ready_at=None)
    return env if known.stopped_at is not None else ended_unasked(env, changed(known, exit=exit_), at)


def ended_unasked(env: EnvironmentState, instance: Instance, at: Instant) -> EnvironmentState:
    """Count an end, a launch that failed, or one that hung: the next launch waits where they come in a row."""
    key = backoff.key(instance.release, instance.process)
    env = verification.upset(env, instance.release, at)
    return changed(env, backoff=with_item(env.backoff, key, backoff.after(env.backoff.get(key), instance, at)))


def of_instance(env: EnvironmentState, name: InstanceId, **changes: Any) -> EnvironmentState:
    """Return *env* with *changes* of one instance; an unknown one is left out."""
    known = env.instances.get(name)
    if known is None:
        return env
    return changed(env, instances=with_item(env.instances, name, changed(known, **changes)))
