"""The fold of one environment: its state and an event give its next state.

Total: an event that an older or newer decision would not have made is folded by what it says, never judged. Many
events are folded best at once (``evolve_all``): each mapping of the state is then copied once, not for each event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from stelae.core import backoff
from stelae.core.owned import changed, settled
from stelae.core.owned import with_item as _with
from stelae.core.owned import without as _without
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import StrategyKind
from stelae.domain.event import Event
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId, short_release
from stelae.domain.state import (
    Backoff,
    Deployment,
    DeploymentKind,
    EnvironmentState,
    Instance,
    Outcome,
    Phase,
    Rollout,
)
from stelae.domain.units import Instant

LOST = Exit(code=-1, at=0)
"""How an instance ended that the platform knows nothing of any more."""

_REVISING = (
    ev.EnvironmentApplied, ev.EnvironmentStopped, ev.EnvironmentStarted, ev.Scaled, ev.DeploymentRequested,
    ev.RolloutReverting, ev.RolloutEnded,
)  # fmt: skip
_Fold = Callable[[EnvironmentState, Any, Instant, str], EnvironmentState]
_FOLDS: dict[type[Event], _Fold] = {}


def evolve(env: EnvironmentState, event: Event, at: Instant, actor: str = "") -> EnvironmentState:
    """Return the environment's state after *event*, which happened at *at* by *actor*."""
    return settled(evolved(env, event, at, actor))


def evolve_all(env: EnvironmentState, events: Iterable[Event], at: Instant, actor: str = "") -> EnvironmentState:
    """Return the environment's state after all of *events*, which happened at *at* by *actor*."""
    for event in events:
        env = evolved(env, event, at, actor)
    return settled(env)


def evolved(env: EnvironmentState, event: Event, at: Instant, actor: str) -> EnvironmentState:
    """As ``evolve``, for who has more to fold and settles the state in the end."""
    fold = _FOLDS.get(type(event))
    return fold(env, event, at, actor) if fold else env


def revises(event: Event) -> bool:
    """True for what makes a plan of the environment stale: what a person did, and how a rollout goes or went back or
    ended. Acts, observations and the steps of a rollout are not, or a plan would never hold."""
    return isinstance(event, _REVISING)


def _folds(kind: type[Event]) -> Callable[[_Fold], _Fold]:
    def register(fold: _Fold) -> _Fold:
        _FOLDS[kind] = fold
        return fold

    return register


@_folds(ev.EnvironmentApplied)
def _applied(env: EnvironmentState, event: ev.EnvironmentApplied, at: Instant, actor: str) -> EnvironmentState:
    old, new = (env.config.processes if env.config else {}), event.environment.processes
    # A count that the file did not change keeps what `scale` made of it.
    wanted = {
        name: env.wanted[name] if old.get(name) == count and name in env.wanted else count
        for name, count in new.items()
    }
    return replace(env, config=event.environment, wanted=wanted)


@_folds(ev.EnvironmentStopped)
def _stopped(env: EnvironmentState, event: ev.EnvironmentStopped, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, down=True, warm={})


@_folds(ev.EnvironmentStarted)
def _started(env: EnvironmentState, event: ev.EnvironmentStarted, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, down=False)


@_folds(ev.Scaled)
def _scaled(env: EnvironmentState, event: ev.Scaled, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, wanted=_with(env.wanted, event.process, event.count))


@_folds(ev.DeploymentRequested)
def _requested(env: EnvironmentState, event: ev.DeploymentRequested, at: Instant, actor: str) -> EnvironmentState:
    release = event.release
    deployment = Deployment(
        id=event.deployment, kind=event.deployment_kind, release=release.id, actor=actor, requested_at=at,
        previous=env.stable, reason=event.reason,
    )  # fmt: skip
    rollout = Rollout(
        deployment=event.deployment, kind=event.deployment_kind, candidate=release.id, stable=env.stable,
        strategy=event.strategy, actor=actor, started_at=at, step_at=at,
    )  # fmt: skip
    return replace(
        env,
        down=False,
        warm={},
        rollout=rollout,
        backoff=_of_stable(env, release.id),
        releases=_with(env.releases, release.id, release),
        deployments=_with(env.deployments, event.deployment, deployment),
    )


def _of_stable(env: EnvironmentState, candidate: ReleaseId) -> dict[str, Backoff]:
    """A candidate begins without a past, and what neither it nor the stable release needs is forgotten."""
    others = {f"{name}/" for name in env.releases if name == candidate or name != env.stable}
    return {key: value for key, value in env.backoff.items() if not key.startswith(tuple(others))}


@_folds(ev.RolloutAdvanced)
def _advanced(env: EnvironmentState, event: ev.RolloutAdvanced, at: Instant, actor: str) -> EnvironmentState:
    if env.rollout is None or env.rollout.deployment != event.deployment:
        return env
    return replace(env, rollout=replace(env.rollout, step=event.step, step_at=at))


@_folds(ev.RolloutReverting)
def _reverting(env: EnvironmentState, event: ev.RolloutReverting, at: Instant, actor: str) -> EnvironmentState:
    if env.rollout is None or env.rollout.deployment != event.deployment:
        return env
    return replace(
        env,
        rollout=replace(
            env.rollout, phase=Phase.REVERTING, ending=event.ending, reason=event.reason,
            details=event.details, step_at=at,
        ),
    )  # fmt: skip


@_folds(ev.RolloutEnded)
def _ended(env: EnvironmentState, event: ev.RolloutEnded, at: Instant, actor: str) -> EnvironmentState:
    deployment = env.deployments.get(event.deployment)
    if deployment is not None and deployment.outcome is None:
        done = replace(deployment, outcome=event.outcome, ended_at=at, why=event.reason, details=event.details)
        env = replace(env, deployments=_with(env.deployments, event.deployment, done))
    rollout = env.rollout
    if rollout is None or rollout.deployment != event.deployment:
        return env
    env = replace(env, rollout=None)
    return _succeeded(env, rollout, at) if event.outcome is Outcome.SUCCEEDED else env


def _succeeded(env: EnvironmentState, rollout: Rollout, at: Instant) -> EnvironmentState:
    replaced, bake = env.stable, env.config.bake if env.config else 0
    warm = {}
    if bake and replaced and replaced != rollout.candidate and rollout.strategy.kind is not StrategyKind.RECREATE:
        warm = {replaced: at + bake}
    verified = env.verified | {env.releases[rollout.candidate].image}
    return replace(
        env,
        stable=rollout.candidate,
        stable_since=at if replaced != rollout.candidate else env.stable_since,
        stables=_stables(env.stables, rollout),
        warm=warm,
        verified=verified,
    )


def _stables(stables: tuple[ReleaseId, ...], rollout: Rollout) -> tuple[ReleaseId, ...]:
    """What was left behind by a rollback was not good: the next rollback must not go to it."""
    if rollout.kind is DeploymentKind.ROLLBACK and rollout.candidate in stables:
        last = len(stables) - 1 - stables[::-1].index(rollout.candidate)
        return stables[: last + 1]
    if stables and stables[-1] == rollout.candidate:
        return stables
    return (*stables, rollout.candidate)


@_folds(ev.PlatformLost)
def _platform_lost(env: EnvironmentState, event: ev.PlatformLost, at: Instant, actor: str) -> EnvironmentState:
    if env.rollout is None or env.rollout.unreachable_since is not None:
        return env
    return replace(env, rollout=replace(env.rollout, unreachable_since=at))


@_folds(ev.PlatformBack)
def _platform_back(env: EnvironmentState, event: ev.PlatformBack, at: Instant, actor: str) -> EnvironmentState:
    rollout = env.rollout
    if rollout is None or rollout.unreachable_since is None:
        return env
    # The time without a platform counts against its own deadline, not against the step's.
    step_at = rollout.step_at + (at - rollout.unreachable_since)
    return replace(env, rollout=replace(rollout, unreachable_since=None, step_at=step_at))


@_folds(ev.WarmEnded)
def _cooled(env: EnvironmentState, event: ev.WarmEnded, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, warm=_without(env.warm, event.release))


@_folds(ev.AllocationSet)
def _allocation(env: EnvironmentState, event: ev.AllocationSet, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, allocation=event.allocation)


@_folds(ev.ActionIntended)
def _intended(env: EnvironmentState, event: ev.ActionIntended, at: Instant, actor: str) -> EnvironmentState:
    action = event.action
    env = changed(env, actions=action.number, pending=_with(env.pending, str(action.number), action))
    if action.verb is Verb.LAUNCH:
        short = short_release(action.release)
        instance = Instance(id=action.instance, release=action.release, process=action.process, launched_at=at)
        return changed(
            env,
            instances=_with(env.instances, action.instance, instance),
            launches=_with(env.launches, short, env.launches.get(short, 0) + 1),
        )
    if action.verb is Verb.STOP:
        known = env.instances.get(action.instance)
        if known is not None and known.id in env.allocation.condemned:
            env = _ended_unasked(env, known, at)
        return _instance(env, action.instance, stopped_at=at)
    if action.verb is Verb.KILL:
        return _instance(env, action.instance, killed_at=at)
    if action.verb is Verb.ROUTE:
        # From now on they may get traffic, whatever becomes of the outcome: they have to drain before they end.
        for name in action.table:
            if name in env.instances and env.instances[name].drained_at is not None:
                env = _instance(env, name, drained_at=None)
    return env


@_folds(ev.ActionDone)
def _done(env: EnvironmentState, event: ev.ActionDone, at: Instant, actor: str) -> EnvironmentState:
    action = env.pending.get(str(event.number))
    if action is None:
        return env
    env = changed(env, pending=_without(env.pending, str(event.number)), applied=max(env.applied, event.number))
    if action.verb is Verb.LAUNCH:
        env = _instance(env, action.instance, started=not event.error, failed=event.error)
        return _ended_unasked(env, env.instances[action.instance], at) if event.error else env
    env = _tried(env, action, event.error, at)
    if event.error:
        return env
    if action.verb is Verb.ROUTE:
        return _routed(env, action, at)
    if action.verb is Verb.REMOVE:
        return changed(env, instances=_without(env.instances, action.instance))
    return env


def _tried(env: EnvironmentState, action: Action, error: str, at: Instant) -> EnvironmentState:
    """Count an act that failed, or a traffic table that was set before and did not last."""
    route = action.verb is Verb.ROUTE
    counts = error or (route and dict(action.table) == dict(env.table) and action.hosts == env.hosts)
    if not counts and not env.backoff:
        return env
    key = backoff.act_key(action)
    before = env.backoff.get(key)
    rest = _without(env.backoff, key)
    if route and not error:
        for name in [name for name in rest if name.startswith(backoff.ROUTES)]:
            rest = _without(rest, name)
    if counts:
        rest = _with(rest, key, backoff.again(before, at))
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
    return replace(env, instances=instances, table=dict(action.table), hosts=action.hosts)


def _instance(env: EnvironmentState, name: InstanceId, **changes: Any) -> EnvironmentState:
    known = env.instances.get(name)
    if known is None:
        return env
    return changed(env, instances=_with(env.instances, name, changed(known, **changes)))


@_folds(ev.InstanceReady)
def _ready(env: EnvironmentState, event: ev.InstanceReady, at: Instant, actor: str) -> EnvironmentState:
    return _instance(env, event.instance, ready_at=at, ever_ready=True, unready_at=None)


@_folds(ev.InstanceUnready)
def _unready(env: EnvironmentState, event: ev.InstanceUnready, at: Instant, actor: str) -> EnvironmentState:
    known = env.instances.get(event.instance)
    if known is None:
        return env
    calm = known.ready_at is not None and at - known.ready_at >= backoff.STABLE_AFTER
    return _instance(env, known.id, ready_at=None, unready_at=at, flaps=1 if calm else known.flaps + 1)


@_folds(ev.InstanceExited)
def _exited(env: EnvironmentState, event: ev.InstanceExited, at: Instant, actor: str) -> EnvironmentState:
    return _over(env, event.instance, event.exit, at)


@_folds(ev.InstanceLost)
def _lost(env: EnvironmentState, event: ev.InstanceLost, at: Instant, actor: str) -> EnvironmentState:
    return _over(env, event.instance, replace(LOST, at=at), at)


def _over(env: EnvironmentState, name: InstanceId, exit_: Exit, at: Instant) -> EnvironmentState:
    known = env.instances.get(name)
    if known is None or known.exit is not None:
        return env
    env = _instance(env, name, exit=exit_, ready_at=None)
    return env if known.stopped_at is not None else _ended_unasked(env, known, at)


def _ended_unasked(env: EnvironmentState, instance: Instance, at: Instant) -> EnvironmentState:
    """Count an end, a launch that failed, or one that hung: the next launch waits where they come in a row."""
    key = backoff.key(instance.release, instance.process)
    return changed(env, backoff=_with(env.backoff, key, backoff.after(env.backoff.get(key), instance, at)))
