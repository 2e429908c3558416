"""Folds of what is done to instances and to the traffic: an intent, and its outcome."""

from __future__ import annotations

from dataclasses import replace

from stelae.core import backoff
from stelae.core.folds import jobs
from stelae.core.folds.instances import ended_unasked, given_up, of_instance
from stelae.core.folds.table import folds
from stelae.core.native import key_of
from stelae.core.owned import changed, with_item, without
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
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
        env = given_up(env, known, at) if known is not None else env
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
    if action.verb is Verb.ENSURE_SET:  # also when it failed: it may have happened all the same
        return changed(env, sets=with_item(env.sets, key_of(action), action.count))
    if event.error:
        return env
    if action.verb is Verb.ROUTE:
        return _routed(env, action, at)
    if action.verb is Verb.SET_TRAFFIC:
        return replace(env, weights=dict(action.weights), hosts=action.hosts, routes=action.routes)
    if action.verb is Verb.REMOVE_SET:
        return changed(env, sets=without(env.sets, key_of(action)))
    if action.verb is Verb.REMOVE:
        return changed(env, instances=without(env.instances, action.instance))
    return env


def _stood(env: EnvironmentState, action: Action) -> bool:
    """True when what *action* makes was so before: it did not last."""
    if action.verb is Verb.ENSURE_SET:
        return env.sets.get(key_of(action)) == action.count
    told = action.hosts, action.routes
    if action.verb is Verb.ROUTE:
        return (dict(action.table), *told) == (dict(env.table), env.hosts, env.routes)
    return action.verb is Verb.SET_TRAFFIC and (dict(action.weights), *told) == (
        dict(env.weights), env.hosts, env.routes,
    )  # fmt: skip


def _tried(env: EnvironmentState, action: Action, error: str, at: Instant) -> EnvironmentState:
    """Count an act that failed, or that was done before and did not last."""
    counts = error or _stood(env, action)
    if not counts and not env.backoff:
        return env
    key = backoff.act_key(action)
    before = env.backoff.get(key)
    rest = without(env.backoff, key)
    if action.verb in (Verb.ROUTE, Verb.SET_TRAFFIC) and not error:
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
