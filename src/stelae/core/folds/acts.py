"""Folds of what is done to instances and to the traffic: an intent, and its outcome."""

from __future__ import annotations

from dataclasses import replace

from stelae.core import backoff, replacing
from stelae.core.folds import jobs
from stelae.core.folds.instances import ended_unasked, of_instance
from stelae.core.folds.table import folds
from stelae.core.owned import changed, with_item, without
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId, Route
from stelae.domain.release import short_release
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant


@folds(ev.ActionIntended)
def _intended(env: EnvironmentState, event: ev.ActionIntended, at: Instant, actor: str) -> EnvironmentState:
    action = event.action
    env = changed(env, actions=action.number, pending=with_item(env.pending, str(action.number), action))
    if action.instance in env.runs:
        return jobs.intended(env, action, at)
    if action.verb is Verb.LAUNCH:
        short = short_release(action.release)
        instance = Instance(id=action.instance, release=action.release, process=action.process, launched_at=at)
        return changed(
            env,
            instances=with_item(env.instances, action.instance, instance),
            launches=with_item(env.launches, short, env.launches.get(short, 0) + 1),
        )
    if action.verb is Verb.STOP:
        known = env.instances.get(action.instance)
        if known is not None and known.id in env.allocation.condemned and not replacing.is_counted(env, known):
            env = ended_unasked(env, known, at)
        return of_instance(env, action.instance, stopped_at=at)
    if action.verb is Verb.KILL:
        return of_instance(env, action.instance, killed_at=at)
    if action.verb is Verb.ROUTE:
        # From now on they may get traffic, whatever becomes of the outcome: they have to drain before they end.
        for name in action.table:
            if name in env.instances and env.instances[name].drained_at is not None:
                env = of_instance(env, name, drained_at=None)
    return env


@folds(ev.ActionDone)
def _done(env: EnvironmentState, event: ev.ActionDone, at: Instant, actor: str) -> EnvironmentState:
    action = env.pending.get(str(event.number))
    if action is None:
        return env
    env = changed(env, pending=without(env.pending, str(event.number)), applied=max(env.applied, event.number))
    if action.instance in env.runs:
        env = env if action.verb is Verb.LAUNCH else _tried(env, action, event.error, at)
        return jobs.done(env, action, event.error, event.unsure)
    if action.verb is Verb.LAUNCH:
        env = of_instance(env, action.instance, started=not event.error, failed=event.error)
        return ended_unasked(env, env.instances[action.instance], at) if event.error else env
    env = _tried(env, action, event.error, at)
    if event.error:
        return env
    if action.verb is Verb.ROUTE:
        return _routed(env, action, at)
    if action.verb is Verb.REMOVE:
        return changed(env, instances=without(env.instances, action.instance))
    return env


def _table(action: Action) -> tuple[dict[InstanceId, int], tuple[str, ...], tuple[Route, ...]]:
    return dict(action.table), action.hosts, action.routes


def _tried(env: EnvironmentState, action: Action, error: str, at: Instant) -> EnvironmentState:
    """Count an act that failed, or a traffic table that was set before and did not last."""
    route = action.verb is Verb.ROUTE
    counts = error or (route and _table(action) == (dict(env.table), env.hosts, env.routes))
    if not counts and not env.backoff:
        return env
    key = backoff.act_key(action)
    before = env.backoff.get(key)
    rest = without(env.backoff, key)
    if route and not error:
        for name in [name for name in rest if name.startswith(backoff.ROUTES)]:
            rest = without(rest, name)
    if counts:
        rest = with_item(rest, key, backoff.again(before, at))
    return changed(env, backoff=rest)


def _routed(env: EnvironmentState, action: Action, at: Instant) -> EnvironmentState:
    instances = dict(env.instances)
    for name, instance in env.instances.items():
        if name in action.table:
            if instance.drained_at is not None:
                instances[name] = changed(instance, drained_at=None)
        elif name in env.table or instance.drained_at is None:
            # Also one that is in no recorded table: it may have been in one whose outcome nobody knows.
            instances[name] = changed(instance, drained_at=at)
    return replace(env, instances=instances, table=dict(action.table), hosts=action.hosts, routes=action.routes)
