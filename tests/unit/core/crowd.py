"""A crowd: an environment of many instances, on a platform on which all that is asked for happens at once.

It goes through the same passes as the controller's loop, without a machine, so that what the decisions cost can be
measured and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stelae.core.converge import actions
from stelae.core.decide import decide
from stelae.core.evolve import evolve_all
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.event import Event
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.units import MILLISECOND, SECOND, Instant
from tests.unit.core.fixtures import environment, release

Meter = Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Any, float]]
"""Calls a function with arguments; returns what it gave and what it cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass did first, with how many instances on record, how many events it recorded, and its costs."""

    what: str
    instances: int
    events: int
    decide: float
    actions: float
    fold: float


class Crowd:
    """One environment of *count* instances, half of them of ``web`` and half of a process without a port; *meter*
    measures each pure part of a pass."""

    def __init__(self, count: int, meter: Meter, kind: str = "blue-green", **options: int) -> None:
        self._meter = meter
        self.environment = environment(kind, web=count - count // 2, worker=count // 2, **options)
        self.env = EnvironmentState(id=self.environment.id)
        self.now: Instant = 1_000 * SECOND
        self.phases: dict[InstanceId, Phase] = {}
        self.table: dict[InstanceId, int] = {}
        self._ending: list[InstanceId] = []
        self._fold([ev.EnvironmentApplied(environment=self.environment)])

    def deploy(self, version: str) -> list[Pass]:
        """Deploy *version* and return the passes until all is at rest, those at the end (of rest) included."""
        asked = ev.DeploymentRequested(
            deployment=f"d-{len(self.env.deployments) + 1}", deployment_kind=DeploymentKind.DEPLOY,
            release=release(version), strategy=self.environment.strategy,
        )  # fmt: skip
        self._fold([asked])
        passes = [self.step()]
        while any(done.events for done in passes[-2:]):
            passes.append(self.step())
        return passes

    def step(self) -> Pass:
        """Make one pass; what was asked to end in an earlier one has ended after it."""
        self.now += MILLISECOND
        seen, instances = self._observe(), len(self.env.instances)
        ended, self._ending = self._ending, []
        decision, decided = self._meter(decide, (self.env, seen, self.now))
        if decision.events:
            folded = self._fold(decision.events)
            done = Pass(
                what=decision.events[0].kind, instances=instances, events=len(decision.events), decide=decided,
                actions=0, fold=folded,
            )  # fmt: skip
        else:
            done = self._act(seen, instances, decided)
        self.phases.update((name, Phase.EXITED) for name in ended if name in self.phases)
        return done

    def _act(self, seen: Observation, instances: int, decided: float) -> Pass:
        steps, converged = self._meter(actions, (self.env.allocation, self.env, seen))
        folded = self._fold([ev.ActionIntended(action=step) for step in steps])
        for step in steps:
            self._do(step)
        folded += self._fold([ev.ActionDone(number=step.number) for step in steps])
        what = str(steps[0].verb) if steps else "rest"
        return Pass(
            what=what, instances=instances, events=2 * len(steps), decide=decided, actions=converged, fold=folded
        )

    def _fold(self, events: Sequence[Event]) -> float:
        self.env, cost = self._meter(evolve_all, (self.env, events, self.now))
        return cost

    def _observe(self) -> Observation:
        seen = {
            name: Seen(id=name, phase=phase, exit=Exit(code=143, at=self.now) if phase is Phase.EXITED else None)
            for name, phase in self.phases.items()
        }
        return Observation(as_of=self.now, applied=self.env.applied, instances=seen, table=dict(self.table))

    def _do(self, step: Action) -> None:
        if step.verb is Verb.LAUNCH:
            self.phases[step.instance] = Phase.READY
        elif step.verb is Verb.ROUTE:
            self.table = dict(step.table)
        elif step.verb is Verb.REMOVE:
            del self.phases[step.instance]
        else:
            self._ending.append(step.instance)
