"""Deadlines: every wait of a rollout has one, so that it always ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.core import clocks, gates, jobs, promotion
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.units import SECOND, Duration, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """Until when the present phase or step may last, and what is said when that is over."""

    at: Instant
    reason: str


def deadline(env: EnvironmentState, rollout: Rollout) -> Deadline:
    """Return the deadline that counts now: the person's while one is waited for, else the machine's."""
    strategy = rollout.strategy
    if rollout.phase is Phase.WAITING:
        return Deadline(at=promotion.gives_up_at(rollout), reason=promotion.given_up(rollout))
    since = clocks.person_since(rollout)
    if since is not None:
        what = rollout.asks if rollout.paused_at is None else f"paused by {rollout.paused_by}"
        return Deadline(
            at=since + strategy.patience, reason=f"nobody came within {_seconds(strategy.patience)}: {what}"
        )
    if rollout.phase is Phase.PREPARING:
        reason = f"it was not prepared within {_seconds(strategy.progress)}"
        time = jobs.time_for(env.releases[rollout.candidate])
        return Deadline(at=rollout.step_at + time + strategy.progress, reason=reason)
    step = f"step {rollout.step + 1}"
    if rollout.phase is Phase.FORWARD and rollout.held_at is not None:
        reason = f"{step} was not let go on within {_seconds(strategy.progress)} after its soak"
        job = gates.gate(env, rollout).job
        time = jobs.time_for(env.releases[rollout.candidate], job) if job else 0
        return Deadline(at=rollout.held_at + gates.soak(env, rollout) + time + strategy.progress, reason=reason)
    reason = f"{step} made no progress for {_seconds(strategy.progress)}"
    return Deadline(at=rollout.step_at + strategy.progress, reason=reason)


def _seconds(span: Duration) -> str:
    return f"{span // SECOND} s"
