"""Retention: which images and disks an environment can still need. They are the roots of garbage collection."""

from __future__ import annotations

from collections.abc import Iterable

from stelae.domain.digest import Digest
from stelae.domain.release import ReleaseId
from stelae.domain.state import Deployment, EnvironmentState, Outcome
from stelae.domain.units import HOUR, Duration, Instant

KEEP_COUNT = 10
"""So many of the last distinct releases that succeeded are kept, however old."""

KEEP_AGE: Duration = 30 * 24 * HOUR
"""Every release that was deployed within this time is kept, however many."""


def image_roots(env: EnvironmentState, now: Instant) -> frozenset[Digest]:
    """Return the images that *env* runs, is moving to, or can return to, and the disks that were made of them."""
    young = {done.release for done in _succeeded(env) if now - done.requested_at <= KEEP_AGE}
    return lasting_roots(env) | _needed(env, young)


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
    return _needed(env, keep)


def _needed(env: EnvironmentState, releases: Iterable[ReleaseId]) -> frozenset[Digest]:
    found = [env.releases[name] for name in releases]
    return frozenset({release.image for release in found} | {release.artifact for release in found})


def _succeeded(env: EnvironmentState) -> list[Deployment]:
    return [done for done in env.deployments.values() if done.outcome is Outcome.SUCCEEDED]
