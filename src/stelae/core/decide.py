"""Decide: the recorded state, an observation and the time give the events to record next. Pure.

One call makes one turn: what was observed becomes facts, the rollout moves by at most one transition, and
the allocation is set anew where it must be. The controller records the events, folds them and calls again
until a turn gives none; then the platform's actions lead to the allocation.

Transitions of a rollout::

    WAITING ──let in──▶ PREPARING ──done──▶ FORWARD             (either is left out where there is nothing to do)
       └────────refused──────┴──failed──▶ REVERTING (reverted)
    FORWARD ──gate of the last step──▶ succeeded
       │  └─gate of a step──▶ FORWARD, next step
       ├─exit, failed launch, not ready in time, unready, gate failed, a deadline──▶ REVERTING (reverted)
       └─abort (from each phase)──▶ REVERTING (cancelled)
    REVERTING ──stable release serves again──▶ reverted | cancelled      (failed, when there is no stable one)
       └─progress or platform deadline──▶ failed

Unknown is not healthy: an observation that is incomplete, or older than the last act, moves nothing but the
deadlines. While a rollout is paused nothing moves it but failures, deadlines and people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stelae.core import analysis, deadlines, failures, gates, jobs, phases, runs, timers
from stelae.core.evolve import evolve, evolve_all
from stelae.core.facts import facts
from stelae.core.target import target
from stelae.core.verdict import Answer, Verdict
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.observation import Observation
from stelae.domain.state import EnvironmentState, Outcome, Phase, Rollout
from stelae.domain.units import SECOND, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to record now, and when to look again at the latest (None: when something changes)."""

    events: tuple[Event, ...] = ()
    wake: Instant | None = None


def decide(env: EnvironmentState, seen: Observation | None, now: Instant) -> Decision:
    """Return the next turn for *env*; *seen* is None when the platform cannot be reached."""
    if seen is None:
        return _blind(env, now)
    events: list[Event] = list(facts(env, seen))
    if env.rollout is not None and env.rollout.unreachable_since is not None:
        events.append(ev.PlatformBack())
    env = evolve_all(env, events, now)
    known = seen.complete and seen.applied >= env.applied
    if known:
        for event in runs.events(env, seen, now):
            events.append(event)
            env = evolve(env, event, now)
        for event in _turn(env, seen, now):
            events.append(event)
            env = evolve(env, event, now)
        wanted = target(env, now)
        if wanted.generation != env.allocation.generation:
            events.append(ev.AllocationSet(allocation=wanted))  # no deadline depends on it
    elif env.rollout is not None:
        events += _overdue(env, env.rollout, now)
    return Decision(events=tuple(events), wake=timers.next_wake(env, now))


def _blind(env: EnvironmentState, now: Instant) -> Decision:
    """The platform does not answer: wait, but not for ever."""
    rollout = env.rollout
    if rollout is None:
        return Decision()
    if rollout.unreachable_since is None:
        return Decision(events=(ev.PlatformLost(reason="the platform does not answer"),))
    deadline = rollout.unreachable_since + rollout.strategy.platform
    if now < deadline:
        return Decision(wake=deadline)
    reason = f"the platform did not answer for {rollout.strategy.platform // SECOND} s"
    return Decision(events=(_ended(rollout, Outcome.FAILED, reason),))


def _turn(env: EnvironmentState, seen: Observation, now: Instant) -> Iterator[Event]:
    rollout = env.rollout
    if rollout is None:
        yield from (ev.WarmEnded(release=name) for name, until in env.warm.items() if until <= now)
    elif rollout.phase is Phase.FORWARD:
        yield from _forward(env, rollout, seen, now)
    elif rollout.phase is Phase.REVERTING:
        yield from _reverting(env, rollout, seen, now)
    else:
        yield from _before(env, rollout, now)


def _before(env: EnvironmentState, rollout: Rollout, now: Instant) -> Iterator[Event]:
    """A rollout that holds nothing of its candidate yet: nothing that is seen speaks for or against it."""
    yield from (ev.WarmEnded(release=name) for name, until in env.warm.items() if until <= now)
    verdict = phases.verdict(env, rollout, now)
    if verdict.answer is Answer.FAIL:
        yield _back(env, rollout, verdict.reason, verdict.details)
    elif verdict.answer is Answer.PASS and rollout.paused_at is None:
        yield ev.RolloutPhase(deployment=rollout.deployment, phase=phases.following(env, rollout))
    else:
        yield from _standing(env, rollout, verdict, now)


def _forward(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Iterator[Event]:
    failure = failures.failure(env, rollout, seen, now)
    if failure is not None:
        yield _back(env, rollout, failure.reason, failure.details)
        return
    if analysis.begins_anew(env, rollout, seen):
        yield _held(rollout, seen)
        return
    verdict = gates.verdict(env, rollout, seen, now)
    if verdict.answer is Answer.FAIL:
        yield _back(env, rollout, verdict.reason, verdict.details)
    elif verdict.answer is Answer.PASS and rollout.paused_at is None:
        yield _on(env, rollout, seen, verdict)
    else:
        yield from _standing(env, rollout, verdict, now)


def _on(env: EnvironmentState, rollout: Rollout, seen: Observation, verdict: Verdict) -> Event:
    """The step's allocation is held, or its gate has passed: *verdict* says on what evidence."""
    if gates.is_to_hold(env, rollout):
        return _held(rollout, seen)
    if gates.is_last(env, rollout):
        return _ended(rollout, Outcome.SUCCEEDED, verdict.reason)
    excused = analysis.excused(rollout, seen)
    return ev.RolloutAdvanced(
        deployment=rollout.deployment, step=rollout.step + 1, reason=verdict.reason, excused=excused
    )


def _held(rollout: Rollout, seen: Observation) -> ev.StepHeld:
    return ev.StepHeld(deployment=rollout.deployment, step=rollout.step, traffic=seen.traffic)


def _standing(env: EnvironmentState, rollout: Rollout, verdict: Verdict, now: Instant) -> Iterator[Event]:
    """Nothing moves: say whether a person has to, and look at the deadlines."""
    asks = verdict.reason if verdict.answer is Answer.PERSON and rollout.paused_at is None else ""
    if bool(asks) != bool(rollout.asks):
        yield ev.PersonAwaited(deployment=rollout.deployment, reason=asks)
    else:
        yield from _overdue(env, rollout, now)


def _reverting(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Iterator[Event]:
    if gates.reverted(env, rollout, seen):
        # With no stable release to go back to, the deployment left nothing behind.
        no_stable = env.stable is None and rollout.ending is Outcome.REVERTED
        yield _ended(rollout, Outcome.FAILED if no_stable else rollout.ending, rollout.reason)
    else:
        yield from _overdue(env, rollout, now)


def _overdue(env: EnvironmentState, rollout: Rollout, now: Instant) -> Iterator[Event]:
    """The end of the time that there is. It comes also while what is there is not known: a rollout always ends."""
    deadline = deadlines.deadline(env, rollout)
    if now < deadline.at:
        return
    if rollout.phase is Phase.REVERTING:
        reason = f"{rollout.reason}; and the stable release did not come back in time"
        yield _ended(rollout, Outcome.FAILED, reason)
    elif rollout.phase is Phase.WAITING:  # nothing speaks against its release, and there is nothing to go back from
        yield _ended(rollout, Outcome.CANCELLED, deadline.reason)
    else:
        yield _back(env, rollout, deadline.reason)


def _back(env: EnvironmentState, rollout: Rollout, reason: str, details: tuple[str, ...] = ()) -> ev.RolloutReverting:
    reason = "; ".join(filter(None, (reason, jobs.remains(env, rollout))))
    return ev.RolloutReverting(deployment=rollout.deployment, ending=Outcome.REVERTED, reason=reason, details=details)


def _ended(rollout: Rollout, outcome: Outcome, reason: str = "") -> ev.RolloutEnded:
    return ev.RolloutEnded(deployment=rollout.deployment, outcome=outcome, reason=reason, details=rollout.details)
