"""Views: states as the JSON values that the API answers with. Pure functions of what is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stelae.controller import crash_loops, drift_views, progress
from stelae.controller.run_views import run_view, under_way
from stelae.core import backoff, gates, secrets, strategies, trust, verification
from stelae.core.target import live, move
from stelae.core.traffic import entry
from stelae.domain.allocation import FULL_WEIGHT
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release, ReleaseId, short_release
from stelae.domain.state import (
    BuiltImage,
    Deployment,
    EnvironmentState,
    InstallationState,
    Instance,
    Outcome,
    Rollout,
)
from stelae.domain.units import Instant
from stelae.spec import platform

Json = dict[str, Any]


def status_row(state: InstallationState, env: EnvironmentState, now: Instant | None = None) -> Json:
    """Return one line of ``stelae status``; with *now* it says how long a soak still lasts."""
    app, _, name = env.id.partition("/")
    release = env.releases.get(env.stable) if env.stable else None
    built = state.images.get(release.image) if release else None
    processes = {process: _counted(env, process) for process in env.wanted}
    return {
        "app": app,
        "environment": name,
        "image": release.image if release else "",
        "disk": (release.disk if release else "") or "",
        "release": env.stable or "",
        "commit": built.sources[-1].commit if built and built.sources else "",
        "instances": {
            "ready": sum(item["ready"] for item in processes.values()),
            "wanted": sum(item["wanted"] for item in processes.values()),
        },
        "processes": processes,
        "traffic": traffic(env),
        "since": env.stable_since,
        "state": _state(env),
        "detail": " · ".join(
            filter(None, (_revoked(state, env, release), drift_views.sentence(env, now), _detail(env, now)))
        ),
        "hosts": list(env.config.routed_hosts) if env.config else [],
        **platform.rendered(env.config.platform if env.config else PlatformChoice()),
        "warm": dict(env.warm),
        "rollout": rollout_view(env, env.rollout) if env.rollout else None,
        "runs": under_way(env),
        "crash_loops": crash_loops.crash_loops(env),
        "drift": drift_views.drift_view(env),
    }


def _counted(env: EnvironmentState, process: str) -> Json:
    """How many instances there are and should be, and between which numbers that is scaled."""
    scaling = env.config.scaling.get(process) if env.config else None
    return {
        "ready": _ready_of(env, process),
        "wanted": 0 if env.down else env.wanted[process],
        "min": scaling.least if scaling else None,
        "max": scaling.most if scaling else None,
    }


def _revoked(state: InstallationState, env: EnvironmentState, release: Release | None) -> str:
    """Say that what runs was revoked: it goes on running until it is replaced."""
    if release is None:
        return ""
    return trust.of_release(state, release) or secrets.revocation(env, release)


def _ready_of(env: EnvironmentState, process: str) -> int:
    """Ready instances of the stable release, or of the candidate before there is a stable one."""
    release = env.stable or (env.rollout.candidate if env.rollout else None)
    return sum(
        1
        for instance in env.instances.values()
        if instance.process == process and instance.release == release and live(instance) and instance.ready_at
    )


def traffic(env: EnvironmentState) -> dict[ReleaseId, int]:
    """Return each release's share of the traffic in basis points, as the last table gives it. Of sets of instances it
    comes of the last weights: where those are not exact, each ready instance of what serves gets as much."""
    if env.weights:
        return _shares(env.weights if env.config is None or env.config.platform.exact else _ready_serving(env))
    weights: dict[ReleaseId, int] = {}
    for name, weight in env.table.items():
        instance = env.instances.get(name)
        if instance is not None:
            weights[instance.release] = weights.get(instance.release, 0) + weight
    return _shares(weights)


def _ready_serving(env: EnvironmentState) -> dict[ReleaseId, int]:
    """How many instances of each release that serves are ready for requests."""
    return {name: sum(1 for _ in _ready(env, name)) if weight else 0 for name, weight in env.weights.items()}


def _ready(env: EnvironmentState, name: ReleaseId) -> Iterator[Instance]:
    release = env.releases.get(name)
    door = entry(release) if release else None
    for item in env.instances.values():
        if (
            item.release == name
            and door is not None
            and item.process == door.name
            and item.ready_at
            and not item.exit
        ):
            yield item


def _shares(parts: Mapping[ReleaseId, int]) -> dict[ReleaseId, int]:
    total = sum(parts.values())
    return {release: part * FULL_WEIGHT // total for release, part in parts.items()} if total else {}


def _state(env: EnvironmentState) -> str:
    if env.down:
        return "down"
    if env.rollout is not None:
        return progress.state(env.rollout)
    if env.stable is None:
        return "empty"
    lacking = _lacking(env)
    enough = all(_ready_of(env, name) >= count for name, count in env.wanted.items() if name not in lacking)
    if not enough:
        return "scaling" if all(_grows(env, name) for name in env.wanted) else "degraded"
    if drift_views.sentence(env, None):
        return "drifted"
    return "verified" if _is_verified(env, env.stable) else "steady"


def _grows(env: EnvironmentState, process: str) -> bool:
    """True when nothing of *process* is ill, and what it lacks is only not there yet: more were asked for."""
    new = [
        instance
        for instance in env.instances.values()
        if (instance.release, instance.process) == (env.stable, process) and live(instance) and not instance.ready_at
    ]
    pause = env.backoff.get(backoff.key(env.stable, process)) if env.stable else None
    if pause is None:
        return not any(instance.ever_ready for instance in new)
    first = min((instance.launched_at for instance in new), default=None)
    calm = first is not None and first - backoff.failed_at(pause) >= backoff.STABLE_AFTER
    return calm and not any(instance.ever_ready for instance in new)


def _is_verified(env: EnvironmentState, stable: ReleaseId) -> bool:
    """Where that takes time, it is told; else every image is verified that came in."""
    long = env.config.verify_for if env.config is not None else 0
    return bool(long) and verification.standing(env, env.releases[stable].artifact, 0).verification is not None


def _lacking(env: EnvironmentState) -> list[str]:
    """Processes that the environment was given after its release was made, and that the release does not have."""
    release = env.releases[env.stable] if env.stable else None
    return [name for name, count in env.wanted.items() if count and release and release.process(name) is None]


def _detail(env: EnvironmentState, now: Instant | None) -> str:
    if env.rollout is not None:
        return progress.detail(env, env.rollout, now)
    crashing = crash_loops.sentence(env, now)
    if crashing:
        return crashing
    lacking = _lacking(env)
    if lacking:
        return f"its release has no process {lacking[0]}: deploy an image that has it"
    short = _starting(env)
    if short and not env.down:
        return short
    warm = f"{', '.join(short_release(name) for name in env.warm)} warm" if env.warm else ""
    return " · ".join(filter(None, (_verifying(env, now), warm)))


def _starting(env: EnvironmentState) -> str:
    """Say what lacks until all wanted instances are ready: when more are asked for, and when one is replaced."""
    lacks = {name: count - _ready_of(env, name) for name, count in env.wanted.items()}
    said = ", ".join(f"{count} of {name}" for name, count in lacks.items() if count > 0)
    return f"{said} not ready yet" if said and env.stable is not None else ""


def _verifying(env: EnvironmentState, now: Instant | None) -> str:
    if env.verifying is None or now is None or not (env.config and env.config.verify_for):
        return ""
    found = verification.standing(env, env.releases[env.verifying.release].artifact, now)
    return found.why if found.left is not None else ""


def rollout_view(env: EnvironmentState, rollout: Rollout) -> Json:
    """Return how far *rollout* is."""
    way = move(env, rollout)
    step = strategies.next_step(way, rollout.step)
    wanted = sum(held.total for held in step.holdings if held.release == rollout.candidate)
    ready = sum(
        1
        for instance in env.instances.values()
        if instance.release == rollout.candidate and live(instance) and instance.ready_at is not None
    )
    return {
        "deployment": rollout.deployment,
        "kind": rollout.kind,
        "candidate": rollout.candidate,
        "strategy": rollout.strategy.kind,
        "phase": rollout.phase,
        "step": rollout.step + 1,
        "steps": strategies.steps(way),
        "ready": min(ready, wanted),
        "wanted": wanted,
        "reason": rollout.reason,
        "actor": rollout.actor,
        "started_at": rollout.started_at,
        "share": progress.share(env, rollout),
        "soaks_until": None if rollout.held_at is None else rollout.held_at + gates.soak(env, rollout),
        "asks": rollout.asks,
        "paused_by": rollout.paused_by,
        "hurried": rollout.hurried,
    }


def deployment_view(env: EnvironmentState, deployment: Deployment) -> Json:
    """Return a deployment and how it went."""
    return {
        "deployment": deployment.id,
        "environment": env.id,
        "kind": deployment.kind,
        "release": deployment.release,
        "image": env.releases[deployment.release].image,
        "disk": env.releases[deployment.release].disk or "",
        "previous": deployment.previous or "",
        "actor": deployment.actor,
        "requested_at": deployment.requested_at,
        "reason": deployment.reason,
        "outcome": deployment.outcome or "",
        "ended_at": deployment.ended_at,
        "approved": [
            {"person": item.person, "at": item.at, "groups": list(item.groups), "reason": item.reason}
            for item in deployment.approved
        ],
        "emergency": deployment.emergency,
        "why": deployment.why,
        "details": list(deployment.details),
        "warm_until": env.warm.get(deployment.previous) if deployment.previous else None,
        "runs": [run_view(env, run) for run in env.runs.values() if run.deployment == deployment.id],
        "serving": serving_view(env),
        "hosts": list(env.config.routed_hosts) if env.config else [],
    }


def serving_view(env: EnvironmentState) -> Json:
    """Return which release serves, and how many of its entry process's instances are ready."""
    release = env.releases.get(env.stable) if env.stable else None
    process = entry(release) if release else None
    if release is None or process is None:
        return {"release": env.stable or "", "ready": 0, "wanted": 0}
    return {
        "release": release.id,
        "ready": _ready_of(env, process.name),
        "wanted": env.wanted.get(process.name, 0),
    }


def instance_view(instance: Instance) -> Json:
    """Return one instance."""
    return {
        "id": instance.id,
        "process": instance.process,
        "release": instance.release,
        "since": instance.launched_at,
        "ready": instance.ready_at is not None,
        "exit": str(instance.exit) if instance.exit else "",
    }


def image_view(built: BuiltImage) -> Json:
    """Return an image, and from which commits it was built."""
    return {
        "image": built.image.digest,
        "app": built.image.app,
        "size": built.image.size,
        "layers": list(built.image.layers),
        "processes": [
            {"name": item.name, "command": list(item.command), "port": item.port} for item in built.image.processes
        ],
        "sources": [
            {"commit": item.commit, "path": item.path, "subject": item.subject, "versioned": item.versioned}
            for item in built.sources
        ],
        "built_at": built.built_at,
        "built_by": built.actor,
    }


def environment_at(state: InstallationState, env: EnvironmentState) -> Json:
    """Return what *env* was running, for ``stelae state``."""
    row = status_row(state, env)
    release = env.releases.get(env.stable) if env.stable else None
    built = state.images.get(release.image) if release else None
    done = [d for d in env.deployments.values() if d.release == env.stable and d.outcome is Outcome.SUCCEEDED]
    by = max(done, key=lambda d: d.requested_at, default=None)
    row["subject"] = built.sources[-1].subject if built and built.sources else ""
    row["deployed_by"] = by.actor if by else ""
    row["deployment"] = by.id if by else ""
    row["approved_by"] = [item.person for item in by.approved] if by else []
    row["deployed_at"] = by.requested_at if by else None
    row["settings"] = dict(release.settings) if release else {}
    row["secrets"] = dict(release.secrets) if release else {}
    row["table"] = dict(env.table)
    row["instances"] = [instance_view(i) for i in env.instances.values() if i.exit is None and not i.failed]
    return row
