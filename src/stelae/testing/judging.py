"""Candidates that are judged by their requests and by checks outside, in random lives, and the laws of that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from stelae.controller.checks import Answer
from stelae.core.checks import BASELINE, Due, judged
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.check import CheckVerdict
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Outcome, Rollout
from stelae.domain.strategy import StrategyKind
from stelae.domain.traffic import Traffic
from stelae.domain.units import MILLISECOND
from stelae.testing.chance import drawn
from stelae.testing.steering import PATIENCE
from stelae.testing.things import Behaviour

S = TypeVar("S", bound=Any)

_SHARE = 0.2
"""So many lives are judged: each is looked at often, and that takes its time."""

_LIMITS: tuple[dict[str, Any], ...] = (
    {"error_rate": 0.05, "requests": 20}, {"error_rate": 0.05, "p99_ms": 100, "requests": 50}, {"requests": 10},
    {"error_rate": 0.05, "compare": False, "requests": 20},
)  # fmt: skip
_BAD = 250_000
"""Of a million requests to a bad image."""

_CHECK = {
    "name": "outside",
    "prometheus": "http://outside.example",
    "query": "{{release}}",
    "most": 5,
    "interval": "1s",
}


def with_judging(
    seed: str, behaviours: tuple[Behaviour, ...], steps: Sequence[S], environments: tuple[str, ...],
    step: Callable[..., S],
) -> tuple[tuple[Behaviour, ...], tuple[S, ...]]:  # fmt: skip
    """Return the images and the life of *seed*, in some of the lives with limits, checks, requests and images that
    fail many of them, whatever else is drawn."""
    chance = drawn(seed, "judging")
    if chance.random() >= _SHARE:
        return behaviours, tuple(steps)
    first, *others = behaviours
    others = [
        replace(one, errors=chance.choice((0, _BAD)), slowest=chance.choice((one.slowest, 400 * MILLISECOND)))
        for one in others
    ]
    lived = [replace(one, args=_judged(chance, one.args)) if one.what == "apply" else one for one in steps]
    rates = {env: chance.choice((0, 5, 50, 200)) for env in environments}
    loads = [step(what="load", args={"env": env, "rate": rate}, wait=0.0) for env, rate in rates.items()]
    place = len(environments)
    return (first, *others), (*lived[:place], *loads, *lived[place:])


def _judged(chance: random.Random, args: dict[str, Any]) -> dict[str, Any]:
    strategy = {**args["strategy"], "soak": chance.choice(("0s", "3s", "8s")), "abort_on": chance.choice(_LIMITS)}
    strategy.setdefault("patience", PATIENCE)
    if strategy["kind"] != "recreate" and chance.random() < 0.7:
        strategy.pop("batch", None)
        strategy |= {"kind": "canary", "steps": chance.choice(([25], [10, 50]))}
    if strategy["kind"] in ("canary", "rolling") and chance.random() < 0.4:
        strategy["checks"] = [_CHECK]
    return {**args, "strategy": strategy}


async def outside(due: Due) -> Answer:
    """Answer a simulated check: the same release always has the same number, a third of them too high a one, and some
    have none."""
    number = sum(map(ord, due.query)) % 9
    verdict, reason = judged(due.check, "NaN" if number == 8 else str(number))
    return verdict, str(number), reason


@dataclass(slots=True)
class JudgingLaws:
    """Judges that nothing goes on for which nothing spoke. It keeps what checks said for itself."""

    _said: dict[tuple[str, int, str], CheckVerdict] = field(default_factory=dict)

    def broken(self, env: EnvironmentState, event: ev.Event, counted: Mapping[ReleaseId, Traffic]) -> str:
        """Say what *event* breaks ("" nothing). *counted* is the truth."""
        if isinstance(event, ev.CheckMeasured):
            self._said[f"{env.id} {event.deployment}", event.step, event.check] = event.verdict
        rollout = env.rollout
        ends = isinstance(event, ev.RolloutEnded) and event.outcome is Outcome.SUCCEEDED
        if rollout is None or rollout.hurried or not (ends or isinstance(event, ev.RolloutAdvanced)):
            return ""
        canary = rollout.strategy.kind is StrategyKind.CANARY and rollout.stable not in (None, rollout.candidate)
        if not canary or rollout.step >= len(rollout.strategy.steps):
            return ""
        what = f"analysis: step {rollout.step} of {rollout.deployment} goes on"
        found = (*self._unchecked(env, rollout), *(_uncounted(rollout, counted) if _serves(env, rollout) else ()))
        return f"{what}, and {found[0]}" if found else ""

    def _unchecked(self, env: EnvironmentState, rollout: Rollout) -> Iterator[str]:
        deployment = f"{env.id} {rollout.deployment}"
        for name in rollout.strategy.steps[rollout.step].gate.checks:
            said = self._said.get((deployment, rollout.step, name))
            fails = said is CheckVerdict.FAIL
            excused = fails and self._said.get((deployment, BASELINE, name)) is CheckVerdict.FAIL
            asked = said is CheckVerdict.SILENT and rollout.opened == rollout.step
            if said is not CheckVerdict.PASS and not excused and not asked:
                yield f"{name} was not in favour"


def _serves(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when somebody wants the candidate to answer requests: a person may have scaled it to nothing."""
    process = entry(env.releases[rollout.candidate])
    return process is not None and env.wanted.get(process.name, 0) > 0


def _uncounted(rollout: Rollout, counted: Mapping[ReleaseId, Traffic]) -> Iterator[str]:
    analysis = rollout.strategy.analysis
    if analysis is None or not rollout.strategy.steps[rollout.step].weight:
        return
    new = counted.get(rollout.candidate, Traffic()).since(rollout.baseline.get(rollout.candidate, Traffic()))
    if new is None:
        return
    if new.requests < analysis.requests and rollout.opened != rollout.step:
        yield f"no more than {new.requests} requests were judged"
    old = counted.get(rollout.stable, Traffic()) if rollout.stable else Traffic()
    if new.requests >= 200 and new.errors * 6 > new.requests and not old.errors:
        yield f"{new.errors} of {new.requests} requests failed"
