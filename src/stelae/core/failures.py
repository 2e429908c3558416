"""Failures: why a rollout cannot go on. It fails as soon as that is certain, not at a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stelae.domain.observation import Observation
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.state import EnvironmentState, Instance, Rollout
from stelae.domain.units import SECOND, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why, in words, and the lines that show it."""

    reason: str
    details: tuple[str, ...] = ()


def failure(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Failure | None:
    """Return why *rollout* must not go on, or None. Only the candidate's instances are judged."""
    found = next(_of_instances(env, rollout, seen, now), None)
    if found is not None:
        return found
    if now - rollout.step_at >= rollout.strategy.progress:
        return Failure(reason=f"step {rollout.step + 1} made no progress for {rollout.strategy.progress // SECOND} s")
    return None


def _of_instances(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Iterator[Failure]:
    for instance in env.instances.values():
        if instance.release != rollout.candidate or instance.stopped_at is not None:
            continue
        if instance.failed and instance.launched_at >= rollout.started_at:
            yield Failure(reason=f"instance {instance.id} could not be launched: {instance.failed}")
        elif instance.exit is not None and instance.exit.at >= rollout.started_at:
            before = "after it was ready" if instance.ever_ready else "before it was ready"
            yield Failure(reason=f"instance {instance.id} {instance.exit} {before}", details=instance.exit.last_lines)
        elif instance.exit is None:
            yield from _of_running(env, instance, seen, now)


def _of_running(env: EnvironmentState, instance: Instance, seen: Observation, now: Instant) -> Iterator[Failure]:
    view = seen.instances.get(instance.id)
    if view is None or instance.ready_at is not None:
        return
    problem = f": {view.problem}" if view.problem else ""
    if instance.ever_ready and view.phase is SeenPhase.UNREADY:
        reason = f"instance {instance.id} was ready and is not any more{problem}"
        yield Failure(reason=reason, details=view.last_lines)
        return
    process = env.releases[instance.release].process(instance.process)
    if process is not None and now - instance.launched_at >= process.health.start:
        reason = f"instance {instance.id} was not ready within {process.health.start / SECOND:g} s{problem}"
        yield Failure(reason=reason, details=view.last_lines)
