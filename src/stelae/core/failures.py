"""Failures: why a rollout cannot go on. It fails as soon as that is certain, not at a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from stelae.core import replacing
from stelae.domain.drift import Answer
from stelae.domain.observation import Observation
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.state import EnvironmentState, Instance, Rollout
from stelae.domain.units import SECOND, Instant

MOST_LINES = 20
"""So many of an instance's last lines are recorded."""

LONGEST_TEXT = 400
"""Characters of a line, or of a problem, that are recorded: even with six bytes for each of them (a control character
in JSON) the lines fit into an entry of the record, which takes 65,535 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why, in words, and the lines that show it."""

    reason: str
    details: tuple[str, ...] = ()


def failure(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Failure | None:
    """Return why *rollout* must not go on, or None. Only the candidate's instances are judged; of those that were
    there before (kept warm, or of a rollout that was superseded) only that they end: one that hangs is replaced."""
    return next(chain(_of_instances(env, rollout, seen, now), _of_sets(env, rollout, seen, now)), None)


def shortened(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return the last of *lines*, cut: what an instance wrote must fit into an entry of the record."""
    return tuple(line[:LONGEST_TEXT] for line in lines[-MOST_LINES:])


def _of_instances(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Iterator[Failure]:
    for instance in env.instances.values():
        if instance.release != rollout.candidate or instance.stopped_at is not None:
            continue
        ours = instance.launched_at >= rollout.started_at
        if instance.failed and ours:
            yield Failure(reason=f"instance {instance.id} could not be launched: {instance.failed}")
        elif instance.exit is not None and (ours or instance.exit.at >= rollout.started_at):
            before = "after it was ready" if instance.ever_ready else "before it was ready"
            yield Failure(reason=f"instance {instance.id} {instance.exit} {before}", details=instance.exit.last_lines)
        elif instance.drift and replacing.is_judged(env, instance) and replacing.policy(env).answer is Answer.REPLACE:
            found = instance.drift[0]
            yield Failure(reason=f"instance {instance.id} drifted: {found.what}", details=found.evidence)
        elif instance.exit is None and ours:
            yield from _of_running(env, instance, seen, now)


def _of_running(env: EnvironmentState, instance: Instance, seen: Observation, now: Instant) -> Iterator[Failure]:
    view = seen.instances.get(instance.id)
    if view is None or instance.ready_at is not None:
        return
    problem = f": {view.problem[:LONGEST_TEXT]}" if view.problem else ""
    if instance.ever_ready and view.phase is SeenPhase.UNREADY:
        reason = f"instance {instance.id} was ready and is not any more{problem}"
        yield Failure(reason=reason, details=shortened(view.last_lines))
        return
    process = env.releases[instance.release].process(instance.process)
    if process is not None and now - instance.launched_at >= process.health.start:
        reason = f"instance {instance.id} was not ready within {process.health.start / SECOND:g} s{problem}"
        yield Failure(reason=reason, details=shortened(view.last_lines))


def _of_sets(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Iterator[Failure]:
    """A platform that keeps sets may go on trying for ever what it is not allowed."""
    for (release, name), why in seen.refused.items():
        process = env.releases[release].process(name) if release == rollout.candidate else None
        if process is not None and now - rollout.step_at >= process.health.start:
            limit = f"{process.health.start / SECOND:g} s"
            yield Failure(reason=f"no instance of {name} could be made within {limit}: {why[:LONGEST_TEXT]}")
