"""The laws of steps and gates, as a witness checks them at every event that is recorded.

It keeps the pauses and the gates that people opened for itself, and reads strategies as they are written, not as the
decisions read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stelae.core.moves import late
from stelae.core.strategies import next_step
from stelae.core.target import move
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import FULL_WEIGHT, InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Observation
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Outcome, Phase, Rollout
from stelae.domain.strategy import Gate, StrategyKind
from stelae.domain.units import Instant

ROUNDING = FULL_WEIGHT // 100
"""How far a share may be above what its step says: the router's weights are whole numbers up to 256."""


@dataclass(slots=True)
class _Steered:
    """What people did to one rollout, as far as it counts."""

    deployment: str = ""
    paused: bool = False
    hurried: bool = False
    opened: int = -1
    held: tuple[int, Instant] | None = None


@dataclass(slots=True)
class RolloutLaws:
    """Judges the steps of every rollout."""

    _steered: dict[EnvironmentId, _Steered] = field(default_factory=dict)

    def broken(self, env: EnvironmentState, event: ev.Event, at: Instant, seen: Observation | None) -> str:
        """Return which law *event*, recorded at *at*, breaks in *env*, as it was before; "" for none. *seen* is what
        the controller saw last."""
        found = next(self._breaks(env, event, at, seen), "")
        self._note(env, event, at)
        return found

    def _note(self, env: EnvironmentState, event: ev.Event, at: Instant) -> None:
        mine = self._steered.setdefault(env.id, _Steered())
        match event:
            case ev.DeploymentRequested():
                self._steered[env.id] = _Steered(deployment=event.deployment)
            case ev.RolloutPaused() if env.rollout is not None and env.rollout.phase is not Phase.REVERTING:
                mine.paused = True
            case ev.RolloutResumed():
                mine.paused = False
            case ev.RolloutHurried():
                mine.paused, mine.hurried = False, True
            case ev.GateOpened():
                mine.opened = event.step
            case ev.StepHeld():
                mine.held = (event.step, at)

    def _breaks(self, env: EnvironmentState, event: ev.Event, at: Instant, seen: Observation | None) -> Iterator[str]:
        rollout = env.rollout
        if isinstance(event, ev.ActionIntended):
            yield from _intended(env, rollout, event.action)
        if rollout is None:
            return
        succeeded = isinstance(event, ev.RolloutEnded) and event.outcome is Outcome.SUCCEEDED
        if isinstance(event, ev.RolloutAdvanced | ev.StepHeld | ev.RolloutPhase) or succeeded:
            if self._steered[env.id].paused and not self._is_held_anew(env.id, event):
                yield f"law 8: {rollout.deployment} is paused, and there is {event.kind}"
            if rollout.phase is Phase.REVERTING:
                yield f"law 8: {rollout.deployment} goes back, and there is {event.kind}"
        if isinstance(event, ev.RolloutAdvanced) or succeeded:
            yield from self._gate(env, rollout, at)
        if isinstance(event, ev.RolloutAdvanced | ev.StepHeld) or succeeded:
            yield from _readiness(env, rollout, seen)

    def _is_held_anew(self, name: EnvironmentId, event: ev.Event) -> bool:
        """True when a step that was held before is held anew: that moves nothing, and judges also while it is
        paused what the router counts anew."""
        held = self._steered[name].held
        return isinstance(event, ev.StepHeld) and held is not None and held[0] == event.step

    def _gate(self, env: EnvironmentState, rollout: Rollout, at: Instant) -> Iterator[str]:
        mine, gate = self._steered[env.id], _gate(env, rollout)
        if mine.hurried:
            return
        if gate.manual and mine.opened != rollout.step:
            yield f"law 8: nobody opened the gate of step {rollout.step + 1} of {rollout.deployment}"
        if gate.soak and (mine.held is None or mine.held[0] != rollout.step or at < mine.held[1] + gate.soak):
            yield f"law 8: step {rollout.step + 1} of {rollout.deployment} did not soak since it was held"


def _gate(env: EnvironmentState, rollout: Rollout) -> Gate:
    """What a step waits for, as the strategy is written."""
    strategy, usual = rollout.strategy, Gate(soak=rollout.strategy.gate.soak)
    if env.stable is None or env.stable == rollout.candidate:
        return Gate()
    match strategy.kind:
        case StrategyKind.RECREATE:
            return usual if rollout.step else Gate()
        case StrategyKind.BLUE_GREEN:
            return usual if rollout.step else strategy.gate
        case StrategyKind.CANARY:
            return strategy.steps[rollout.step].gate if rollout.step < len(strategy.steps) else usual
    moves_late = any(env.allocation.holding(rollout.candidate, name).serving for name in late(move(env, rollout)))
    return usual if moves_late else strategy.gate


def _readiness(env: EnvironmentState, rollout: Rollout, seen: Observation | None) -> Iterator[str]:
    """Whatever is skipped, a step is left only when all that it holds of the candidate is ready."""
    for held in next_step(move(env, rollout), rollout.step).holdings:
        if held.release != rollout.candidate or seen is None:
            continue
        ready = sum(
            1
            for one in env.instances.values()
            if (one.release, one.process) == (held.release, held.process)
            and one.id in seen.instances
            and seen.instances[one.id].phase is SeenPhase.READY
        )
        if ready < held.total:
            yield f"law 8: {rollout.deployment} goes on with {ready} of {held.total} {held.process} ready"


def _intended(env: EnvironmentState, rollout: Rollout | None, action: Action) -> Iterator[str]:
    if action.instance in env.runs:
        return
    if action.verb is Verb.LAUNCH and rollout is not None:
        if rollout.phase is Phase.FORWARD:
            yield from _surge(env, rollout, action)
        elif action.release != env.stable and action.release not in env.warm:
            yield f"law 8: {action.instance} is launched, and {rollout.deployment} is {rollout.phase}"
    if action.verb is Verb.ROUTE:
        yield from _shares(env, rollout, action)


def _surge(env: EnvironmentState, rollout: Rollout, action: Action) -> Iterator[str]:
    strategy, name = rollout.strategy, action.process
    whole = strategy.surge >= 100 or strategy.kind in (StrategyKind.RECREATE, StrategyKind.BLUE_GREEN)
    if whole or env.stable in (None, rollout.candidate):
        return
    wanted = env.wanted.get(name, 0)
    held = sum(item.total for item in env.allocation.holdings if item.process == name)
    limit = max(wanted + -(-wanted * strategy.surge // 100), held)
    there = sum(1 for one in env.instances.values() if one.process == name and one.exit is None and not one.failed)
    if there + 1 > limit:
        yield f"law 6: {action.instance} makes {there + 1} {name}, of {limit} that the surge allows"


def _shares(env: EnvironmentState, rollout: Rollout | None, action: Action) -> Iterator[str]:
    """Who may get traffic, and how much of it. What is left of others only keeps the floor."""
    of: dict[InstanceId, ReleaseId] = {name: env.instances[name].release for name in action.table}
    table = {name: weight for name, weight in action.table.items() if weight}
    allowed = {env.stable}
    limit = _limit(env, rollout)
    if rollout is not None and rollout.phase is Phase.FORWARD and limit != 0:
        allowed.add(rollout.candidate)
    ours = [name for name in table if of[name] in allowed]
    others = [name for name in table if of[name] not in allowed]
    floor = max((env.allocation.floor.get(env.instances[name].process, 0) for name in table), default=0)
    if others and not env.down and len(ours) >= floor:
        yield f"law 6: {', '.join(others)} get traffic, which is not theirs any more, or not yet"
    if rollout is None or limit is None or rollout.phase is not Phase.FORWARD:
        return
    theirs = sum(weight for name, weight in table.items() if of[name] == rollout.candidate)
    total = sum(table.values())
    if limit and theirs != total and theirs * FULL_WEIGHT > (limit + ROUNDING) * total:
        share = theirs * FULL_WEIGHT // total
        yield f"law 6: the candidate of {rollout.deployment} gets {share} basis points, of {limit}"


def _limit(env: EnvironmentState, rollout: Rollout | None) -> int | None:
    """The candidate's share at most, None where its instances have equal shares."""
    if rollout is None or env.stable in (None, rollout.candidate):
        return None
    strategy = rollout.strategy
    if strategy.kind is StrategyKind.BLUE_GREEN:
        return None if rollout.step else 0
    if strategy.kind is StrategyKind.CANARY and rollout.step < len(strategy.steps):
        return strategy.steps[rollout.step].weight
    return None
