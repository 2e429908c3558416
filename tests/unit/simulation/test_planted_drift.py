"""Bugs of the answers to drift, as a careless change would make them, are found by the laws in simulated lives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import converge, drift, replacing
from stelae.domain import event as ev
from stelae.domain.drift import Answer, Drift, DriftState
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import SECOND
from stelae.testing.faults import LookFault
from stelae.testing.life import Life, Step
from stelae.testing.simulation import live
from stelae.testing.things import Behaviour


def _with_report(condemned: Callable[..., Any]) -> Callable[..., Any]:
    """Replace also where drift is only to be reported."""

    def wrong(env: EnvironmentState, now: int) -> Any:
        if env.config is None:
            return condemned(env, now)
        policy = replace(env.config.drift, answer=Answer.REPLACE)
        return condemned(replace(env, config=replace(env.config, drift=policy)), now)

    return wrong


def _the_next(condemned: Callable[..., Any]) -> Callable[..., Any]:
    """Replace another one than the one that drifted."""

    def wrong(env: EnvironmentState, now: int) -> list[Any]:
        names = sorted(one.id for one in env.instances.values() if replacing.runs_now(one))
        found = list(condemned(env, now))
        return [names[(names.index(name) + 1) % len(names)] for name in found]

    return wrong


def _in_a_storm(condemned: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(env: EnvironmentState, now: int) -> Any:
        if env.config is None:
            return condemned(env, now)
        policy = replace(env.config.drift, storm=100)
        return condemned(replace(env, drift=DriftState(), config=replace(env.config, drift=policy)), now)

    return wrong


def _judged_in_a_rollback(env: EnvironmentState, one: Instance) -> bool:
    return env.rollout is not None and one.release == env.rollout.candidate


BUGS: dict[str, tuple[Any, str, Any]] = {
    "drift is not answered": (replacing, "condemned", lambda *_: ()),
    "what is to be reported is replaced": (replacing, "condemned", _with_report(replacing.condemned)),
    "another one is replaced": (replacing, "condemned", _the_next(replacing.condemned)),
    "a storm stops nothing": (replacing, "condemned", _in_a_storm(replacing.condemned)),
    "a storm is not seen": (replacing, "_storm", lambda *_: None),
    "what was missed was found whole (law 11)": (drift, "_looked_at", lambda *_: True),
    "acts that are under way are forgotten": (drift, "_is_undisturbed", lambda *_: True),
    "drifted instances become what they were (law 10)": (drift, "_may_end", lambda *_: True),
    "going back is held up by drift (law 8)": (replacing, "is_judged", _judged_in_a_rollback),
    "a replacement is not waited for (law 6)": (converge, "_floor", lambda *_: 0),
    "with recreate nothing makes room": (replacing, "ended_first", lambda env, wanted, _: wanted),
    "nothing is inspected": (drift, "may_be_inspected", lambda _: False),
}

GOOD = Behaviour(ready_after=2 * SECOND)


def life(*steps: Step, policy: str = "", **strategy: Any) -> Life:
    """A life in which an image serves with three instances, and then *steps* happen."""
    strategy = {"kind": "rolling", "min_healthy": "3s", "progress": "60s", "platform": "20s", **strategy}
    args = {
        "env": "testing", "web": 3, "worker": 0, "bake": "0s", "level": "info", "promote": False,
        "strategy": strategy, "policy": f'drift_storm = "60%"\n{policy}',
    }  # fmt: skip
    return Life(
        seed="1", behaviours=(GOOD,) * 9, environments=("testing",),
        steps=(Step(what="apply", args=args), deploy(0, wait=10), *steps),
    )  # fmt: skip


def deploy(image: int, wait: float) -> Step:
    return Step(what="deploy", args={"env": "testing", "image": image, "strategy": "", "supersede": True}, wait=wait)


def drifts(wait: float, which: int = 0, most: int = 1, lasts: float | None = None, number: int = 0) -> Step:
    args = {"env": "testing", "which": which, "most": most, "lasts": lasts, "number": number}
    return Step(what="drift", args={**args, "kind": Drift.MONITOR, "alarm": True}, wait=wait)


def looks(fault: LookFault, seconds: float) -> Step:
    return Step(what="look-fault", args={"fault": fault, "seconds": seconds})


LIVES = {
    "one drifts": life(drifts(20)),
    "one is reported": life(drifts(20), policy='drift = "report"'),
    "two drift at once": life(drifts(20, most=2), batch="100%"),
    "two drift for a while": life(drifts(20, most=2, lasts=3)),
    "one cannot be looked at": life(
        drifts(6, which=2), looks(LookFault.INCOMPLETE, 12), Step(what="look-fault", args={
            "fault": LookFault.MISSED, "seconds": 1}, wait=20), policy='drift = "report"',
    ),
    "more are launched in a long look": life(
        looks(LookFault.SLOW, 60), drifts(0.1),
        Step(what="scale", args={"env": "testing", "process": "web", "count": 5}, wait=20),
    ),
    "going back": life(
        deploy(1, wait=40), Step(what="rollback", args={"env": "testing", "back": 0}, wait=1),
        drifts(60, which=3, most=10),
    ),
    "one at a time": life(drifts(20), kind="recreate"),
}  # fmt: skip

FOUND = {
    "drift is not answered": ("one drifts", "is not replaced"),
    "what is to be reported is replaced": ("one is reported", "where drift is only reported"),
    "another one is replaced": ("one drifts", "it did not drift"),
    "a storm stops nothing": ("two drift at once", "in a storm"),
    "a storm is not seen": ("two drift at once", "the rule of storms"),
    "what was missed was found whole (law 11)": ("one cannot be looked at", "and is not"),
    "acts that are under way are forgotten": ("more are launched in a long look", "and it is launched"),
    "drifted instances become what they were (law 10)": ("two drift for a while", "law 10: drift"),
    "going back is held up by drift (law 8)": ("going back", "it held up"),
    "a replacement is not waited for (law 6)": ("one drifts", "took the capacity"),
    "with recreate nothing makes room": ("one at a time", "one more than"),
    "nothing is inspected": ("one drifts", "nobody found it"),
}


@pytest.mark.parametrize("name", LIVES)
def test_the_lives_are_lived_well_without_a_bug(name: str) -> None:
    result = live(LIVES[name])
    assert not result.broken, "\n".join(result.story)
    assert any(isinstance(item.event, ev.DriftFound) for item in result.events)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, attribute, replacement = BUGS[bug]
    monkeypatch.setattr(target, attribute, replacement)
    name, law = FOUND[bug]
    assert re.search(law, live(LIVES[name]).broken)
