"""Retention: which images an environment can still need. They are the roots of garbage collection."""

from __future__ import annotations

from stelae.domain.digest import Digest
from stelae.domain.state import Deployment, EnvironmentState, Outcome
from stelae.domain.units import HOUR, Duration, Instant

KEEP_COUNT = 10
"""So many of the last distinct releases that succeeded are kept, however old."""

KEEP_AGE: Duration = 30 * 24 * HOUR
"""Every release that was deployed within this time is kept, however many."""


def image_roots(env: EnvironmentState, now: Instant) -> frozenset[Digest]:
    """Return the images that *env* runs, is moving to, or can return to."""
    young = {done.release for done in _succeeded(env) if now - done.requested_at <= KEEP_AGE}
    return lasting_roots(env) | {env.releases[name].image for name in young}


def lasting_roots(env: EnvironmentState) -> frozenset[Digest]:
    """Return those of ``image_roots`` that stay, however old they become, as long as nothing new is deployed."""
    keep = {instance.release for instance in env.instances.values()}
    keep.update(run.release for run in env.runs.values() if not run.removed)
    keep.update(env.warm)
    keep.update(env.stables[-KEEP_COUNT:])
    if env.stable:
        keep.add(env.stable)
    if env.rollout:
        keep.add(env.rollout.candidate)
    newest = dict.fromkeys(
        done.release for done in sorted(_succeeded(env), key=lambda d: d.requested_at, reverse=True)
    )
    keep.update(list(newest)[:KEEP_COUNT])
    return frozenset(env.releases[name].image for name in keep)


def _succeeded(env: EnvironmentState) -> list[Deployment]:
    return [done for done in env.deployments.values() if done.outcome is Outcome.SUCCEEDED]
