"""Folds of how a rollout begins, goes and ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.core import clocks, phases, promotion, verification
from stelae.core.folds.table import folds
from stelae.core.owned import with_item, without
from stelae.domain import event as ev
from stelae.domain.release import ReleaseId
from stelae.domain.state import Backoff, Deployment, DeploymentKind, EnvironmentState, Outcome, Phase, Rollout
from stelae.domain.strategy import StrategyKind
from stelae.domain.units import Instant


@folds(ev.DeploymentRequested)
def _requested(env: EnvironmentState, event: ev.DeploymentRequested, at: Instant, actor: str) -> EnvironmentState:
    release = event.release
    deployment = Deployment(
        id=event.deployment, kind=event.deployment_kind, release=release.id, actor=actor, requested_at=at,
        previous=env.stable, reason=event.reason, emergency=event.emergency,
    )  # fmt: skip
    rollout = Rollout(
        deployment=event.deployment, kind=event.deployment_kind, candidate=release.id, stable=env.stable,
        strategy=event.strategy, actor=actor, started_at=at, step_at=at,
    )  # fmt: skip
    rollout = promotion.asked(env, rollout, event.emergency)
    rollout = replace(rollout, phase=phases.first(env, release, rollout))
    env = _begun(env) if rollout.phase is Phase.FORWARD else env
    return replace(
        env,
        rollout=rollout,
        backoff=_of_stable(env, release.id),
        releases=with_item(env.releases, release.id, release),
        deployments=with_item(env.deployments, event.deployment, deployment),
    )


def _begun(env: EnvironmentState) -> EnvironmentState:
    """Until it goes forward, what was warm stays warm, and what was taken down stays down."""
    return replace(env, down=False, warm={})


def _of_stable(env: EnvironmentState, candidate: ReleaseId) -> dict[str, Backoff]:
    """A candidate begins without a past, and what neither it nor the stable release needs is forgotten."""
    others = {f"{name}/" for name in env.releases if name == candidate or name != env.stable}
    return {key: value for key, value in env.backoff.items() if not key.startswith(tuple(others))}


@folds(ev.RolloutPhase)
def _phase(env: EnvironmentState, event: ev.RolloutPhase, at: Instant, actor: str) -> EnvironmentState:
    if env.rollout is not None and env.rollout.phase is Phase.WAITING and _is_of(env, event.deployment):
        env = promotion.let_in(env, env.rollout)
    env = _begun(env) if event.phase is Phase.FORWARD and _is_of(env, event.deployment) else env
    return _of_rollout(env, event.deployment, phase=event.phase, step_at=at, **clocks.NOBODY)


@folds(ev.RolloutAdvanced)
def _advanced(env: EnvironmentState, event: ev.RolloutAdvanced, at: Instant, actor: str) -> EnvironmentState:
    return _of_rollout(
        env, event.deployment, step=event.step, step_at=at, held_at=None, baseline={}, excused=event.excused,
        passed=event.reason,
        **clocks.NOBODY,
    )  # fmt: skip


@folds(ev.StepHeld)
def _held(env: EnvironmentState, event: ev.StepHeld, at: Instant, actor: str) -> EnvironmentState:
    if env.rollout is None or env.rollout.step != event.step:
        return env
    intervals = env.rollout.intervals + 1
    return _of_rollout(env, event.deployment, held_at=at, baseline=dict(event.traffic), intervals=intervals)


@folds(ev.RolloutReverting)
def _reverting(env: EnvironmentState, event: ev.RolloutReverting, at: Instant, actor: str) -> EnvironmentState:
    return _of_rollout(
        env, event.deployment, phase=Phase.REVERTING, ending=event.ending, reason=event.reason,
        details=event.details, step_at=at, paused_at=None, paused_by="", **clocks.NOBODY,
    )  # fmt: skip


def _is_of(env: EnvironmentState, deployment: str) -> bool:
    return env.rollout is not None and env.rollout.deployment == deployment


def _of_rollout(env: EnvironmentState, deployment: str, **changes: Any) -> EnvironmentState:
    """Return *env* with *changes* of its rollout; what comes for another deployment is left out."""
    if env.rollout is None or env.rollout.deployment != deployment:
        return env
    return replace(env, rollout=replace(env.rollout, **changes))


@folds(ev.RolloutEnded)
def _ended(env: EnvironmentState, event: ev.RolloutEnded, at: Instant, actor: str) -> EnvironmentState:
    deployment = env.deployments.get(event.deployment)
    if deployment is not None and deployment.outcome is None:
        done = replace(deployment, outcome=event.outcome, ended_at=at, why=event.reason, details=event.details)
        env = replace(env, deployments=with_item(env.deployments, event.deployment, done))
    rollout = env.rollout
    if rollout is None or rollout.deployment != event.deployment:
        return env
    env = replace(env, rollout=None)
    if event.outcome is not Outcome.SUCCEEDED:
        return verification.upset(env, env.stable, at)
    return verification.begun(_succeeded(env, rollout, at), rollout.candidate, rollout.deployment, at)


def _succeeded(env: EnvironmentState, rollout: Rollout, at: Instant) -> EnvironmentState:
    replaced, bake = env.stable, env.config.bake if env.config else 0
    warm = {}
    if bake and replaced and replaced != rollout.candidate and rollout.strategy.kind is not StrategyKind.RECREATE:
        warm = {replaced: at + bake}
    return replace(
        env,
        stable=rollout.candidate,
        stable_since=at if replaced != rollout.candidate else env.stable_since,
        stables=_stables(env.stables, rollout),
        warm=warm,
    )


def _stables(stables: tuple[ReleaseId, ...], rollout: Rollout) -> tuple[ReleaseId, ...]:
    """What was left behind by a rollback was not good: the next rollback must not go to it."""
    if rollout.kind is DeploymentKind.ROLLBACK and rollout.candidate in stables:
        last = len(stables) - 1 - stables[::-1].index(rollout.candidate)
        return stables[: last + 1]
    if stables and stables[-1] == rollout.candidate:
        return stables
    return (*stables, rollout.candidate)


@folds(ev.PlatformLost)
def _platform_lost(env: EnvironmentState, event: ev.PlatformLost, at: Instant, actor: str) -> EnvironmentState:
    if env.rollout is None or env.rollout.unreachable_since is not None:
        return env
    return replace(env, rollout=replace(env.rollout, unreachable_since=at))


@folds(ev.PlatformBack)
def _platform_back(env: EnvironmentState, event: ev.PlatformBack, at: Instant, actor: str) -> EnvironmentState:
    rollout = env.rollout
    if rollout is None or rollout.unreachable_since is None:
        return env
    return replace(env, rollout=clocks.back(rollout, at))


@folds(ev.WarmEnded)
def _cooled(env: EnvironmentState, event: ev.WarmEnded, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, warm=without(env.warm, event.release))


@folds(ev.AllocationSet)
def _allocation(env: EnvironmentState, event: ev.AllocationSet, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, allocation=event.allocation)
