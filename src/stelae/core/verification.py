"""Verification: whether an image is verified in an environment, and when it comes to be. Pure.

Where machines boot them it is disks that are verified, each for itself: another disk of the same image, or the image
as containers run it, is another artifact, of which nothing is known by that.

An image is verified when the rollout of a release of it succeeded and then, for as long as the environment asks
(``verify_for``), none of that release's instances ended, failed or became unready unasked; each time one does, the
time begins anew. Where none of its instances is wanted nothing is verified, and no time goes by. A later rollout of
the same image there that is reverted or fails takes that back, until the image is verified again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stelae.core.target import live
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.observation import Observation
from stelae.domain.promotion import Verification, Verifying
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Outcome
from stelae.domain.units import HOUR, MINUTE, SECOND, Duration, Instant

NEVER = "never verified"
_AGAINST = (Outcome.REVERTED, Outcome.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an image stands in an environment: how it was verified, or why it does not count as that. ``left`` is how
    long nothing may go wrong yet until it does, where that is all that lacks."""

    verification: Verification | None = None
    why: str = ""
    left: Duration | None = None


def standing(env: EnvironmentState | None, artifact: Digest, now: Instant) -> Standing:
    """Return where *artifact*, an image or a disk, stands in *env*, None for one that there is not."""
    if env is None:
        return Standing(why=NEVER)
    found, doubt = env.verifications.get(artifact), _doubt(env, artifact)
    if artifact in env.verified and found is not None and not doubt:
        return Standing(verification=found)
    it = env.verifying
    if it is not None and env.releases[it.release].artifact == artifact:
        if not _runs(env, it.release):
            return Standing(why="not verified yet: no instance of it is wanted there")
        left = max(0, it.since + _long(env) - now)
        return Standing(why=f"not verified yet: {spell(left)} to go", left=left)
    rollout = env.rollout
    if rollout is not None and env.releases[rollout.candidate].artifact == artifact:
        return Standing(why=f"not verified yet: {rollout.deployment} is under way")
    return Standing(why=doubt or NEVER)


def _doubt(env: EnvironmentState, artifact: Digest) -> str:
    """Why an artifact that was verified does not count as that any more: its last rollout that ended by itself."""
    known = env.verifications.get(artifact)
    for deployment in reversed(tuple(env.deployments.values())):
        if known is None or deployment.id == known.deployment:
            return ""
        if env.releases[deployment.release].artifact == artifact and deployment.outcome in _AGAINST:
            return f"not verified any more: {deployment.id} of it was {_said(deployment.outcome)}"
    return ""


def _said(outcome: Outcome | None) -> str:
    return "reverted" if outcome is Outcome.REVERTED else "a failure"


def begun(env: EnvironmentState, release: ReleaseId, deployment: str, at: Instant) -> EnvironmentState:
    """Return *env* when the rollout of *release* has succeeded at *at*; where no time is asked for, and
    instances of it run, its image is verified."""
    env = replace(env, verifying=Verifying(release=release, deployment=deployment, since=at))
    if _long(env) or not _runs(env, release):
        return env
    done = Verification(release=release, deployment=deployment, since=at, at=at)
    artifact = env.releases[release].artifact
    return replace(env, verified=env.verified | {artifact}, verifications={**env.verifications, artifact: done})


def upset(env: EnvironmentState, release: ReleaseId | None, at: Instant) -> EnvironmentState:
    """Return *env* when an instance of *release* ended, failed or became unready unasked: the time begins anew."""
    it = env.verifying
    if it is None or it.release != release:
        return env
    return replace(env, verifying=replace(it, since=at))


def rescaled(env: EnvironmentState, at: Instant) -> EnvironmentState:
    """Return *env* when other counts are wanted from *at* on: time in which no instance was does not count."""
    it = env.verifying
    return env if it is None or _runs(env, it.release) else upset(env, it.release, at)


def due(env: EnvironmentState, seen: Observation | None, now: Instant) -> ev.ImageVerified | None:
    """Return what to record when the time is over; nothing while a rollout is under way, or what is there is not
    known or not whole."""
    it = env.verifying
    if it is None or env.rollout is not None or env.down or now < it.since + _long(env):
        return None
    if seen is None or not seen.complete or seen.applied < env.applied or not _whole(env, it.release):
        return None
    release = env.releases[it.release]
    return ev.ImageVerified(
        image=release.image, disk=release.disk, release=it.release, deployment=it.deployment, since=it.since,
        evidence=_evidence(env, it, seen, now),
    )  # fmt: skip


def wake(env: EnvironmentState, now: Instant) -> Instant | None:
    """Return when the time will be over, None when that is not the case."""
    at = env.verifying.since + _long(env) if env.verifying is not None else now
    return at if at > now else None


def _long(env: EnvironmentState) -> Duration:
    return env.config.verify_for if env.config is not None else 0


def _runs(env: EnvironmentState, release: ReleaseId) -> bool:
    """True when at least one instance of *release* is wanted."""
    return any(count and env.releases[release].process(process) for process, count in env.wanted.items())


def _whole(env: EnvironmentState, release: ReleaseId) -> bool:
    return (
        env.stable == release
        and _runs(env, release)
        and all(
            _ready(env, release, process) >= count
            for process, count in env.wanted.items()
            if env.releases[release].process(process) is not None
        )
    )


def _ready(env: EnvironmentState, release: ReleaseId, process: str) -> int:
    return sum(
        1
        for instance in env.instances.values()
        if (instance.release, instance.process) == (release, process)
        and live(instance)
        and instance.ready_at is not None
    )


def _evidence(env: EnvironmentState, it: Verifying, seen: Observation, now: Instant) -> str:
    """What was seen, in words: how long what was ready, and how many requests it answered since it came."""
    counts = {name: _ready(env, it.release, name) for name in sorted(env.wanted)}
    held = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing wanted"
    traffic = seen.traffic.get(it.release)
    requests = f"{traffic.requests} request{'' if traffic.requests == 1 else 's'}" if traffic else ""
    answered = f"; {requests} answered, {traffic.errors} failed" if traffic else ""
    return f"{spell(now - it.since)} without a failure ({held}){answered}"


def spell(length: Duration) -> str:
    """Return *length* as ``41 min``, ``2 h``, ``30 s``, rounded down."""
    for size, name in ((HOUR, "h"), (MINUTE, "min")):
        if length >= 2 * size or length == size:
            return f"{length // size} {name}"
    return f"{length // SECOND} s"
