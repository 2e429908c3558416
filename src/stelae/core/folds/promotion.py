"""Folds of what was verified, and of who and what lets a deployment in."""

from __future__ import annotations

from dataclasses import replace

from stelae.core.folds.table import folds
from stelae.core.owned import with_item
from stelae.domain import event as ev
from stelae.domain.promotion import Approved, Verification
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant


@folds(ev.ImageVerified)
def _verified(env: EnvironmentState, event: ev.ImageVerified, at: Instant, actor: str) -> EnvironmentState:
    done = Verification(
        release=event.release, deployment=event.deployment, since=event.since, at=at, evidence=event.evidence
    )
    over = env.verifying is not None and env.verifying.deployment == event.deployment
    return replace(
        env,
        verified=env.verified | {event.artifact},
        verifications=with_item(env.verifications, event.artifact, done),
        verifying=None if over else env.verifying,
    )


@folds(ev.VerificationSigned)
def _signed(env: EnvironmentState, event: ev.VerificationSigned, at: Instant, actor: str) -> EnvironmentState:
    known = env.verifications.get(event.artifact)
    if known is None or known.deployment != event.deployment:
        return env
    signed = replace(known, statement=event.statement, key=event.key)
    return replace(env, verifications=with_item(env.verifications, event.artifact, signed))


@folds(ev.DeploymentApproved)
def _approved(env: EnvironmentState, event: ev.DeploymentApproved, at: Instant, actor: str) -> EnvironmentState:
    rollout, deployment = env.rollout, env.deployments.get(event.deployment)
    if rollout is None or rollout.deployment != event.deployment or rollout.candidate != event.release:
        return env
    said = Approved(person=actor, at=at, groups=event.groups, reason=event.reason)
    env = replace(env, rollout=replace(rollout, approved=(*rollout.approved, said)))
    if deployment is None:
        return env
    deployment = replace(deployment, approved=(*deployment.approved, said))
    return replace(env, deployments=with_item(env.deployments, event.deployment, deployment))


@folds(ev.FreezeKnown)
def _freeze(env: EnvironmentState, event: ev.FreezeKnown, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, freeze=event.window)
