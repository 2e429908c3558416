"""Bugs of analysis and checks, as a careless change would make them, are found by the laws in simulated lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import analysis, checks, findings
from stelae.core.folds import checks as folds
from stelae.core.verdict import Answer, Verdict
from stelae.domain import event as ev
from stelae.domain.state import Outcome
from stelae.testing.life import Life, Step
from stelae.testing.simulation import live
from stelae.testing.things import Behaviour

PASS = Verdict(answer=Answer.PASS)


def _never_asks_a_person(judge: Any) -> Any:
    def wrong(*all_: Any) -> Verdict:
        verdict: Verdict = judge(*all_)
        return replace(verdict, answer=Answer.PASS) if verdict.answer is Answer.PERSON else verdict

    return wrong


def _always_in_favour(asked: Any) -> Any:
    return lambda known, event, at: replace(asked(known, event, at), passed=True, failures=0)


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "every candidate is good": (analysis, "judge", lambda *_: PASS),
    "nothing is certain enough": (findings, "_finding", lambda metric, *_: findings.Finding(name=metric.name)),
    "little traffic passes": (analysis, "judge", _never_asks_a_person(analysis.judge)),
    "checks are left out": (checks, "gate", lambda *_: PASS),
    "what a check says does not matter": (folds, "_asked", _always_in_favour(folds._asked)),
}


CHECK = {
    "name": "outside",
    "prometheus": "http://outside.example",
    "query": "{{release}}",
    "most": 5,
    "interval": "1s",
}


def canary(rate: int, *behaviours: Behaviour, **strategy: Any) -> Life:
    """A life with a canary of each of the images, one after the other, at *rate* requests a second."""
    strategy = {
        "kind": "canary", "steps": [50], "soak": "5s", "min_healthy": "0s", "progress": "60s", "platform": "20s",
        "patience": "30s", **strategy,
    }  # fmt: skip
    args = {"env": "testing", "web": 2, "worker": 0, "bake": "0s", "level": "info", "promote": False}
    deploys = [
        Step(what="deploy", args={"env": "testing", "image": n, "strategy": "", "supersede": True}, wait=60)
        for n in range(len(behaviours))
    ]
    return Life(
        seed="1", behaviours=behaviours, environments=("testing",),
        steps=(
            Step(what="apply", args={**args, "strategy": strategy}),
            Step(what="load", args={"env": "testing", "rate": rate}), *deploys,
        ),
    )  # fmt: skip


GOOD, BAD = Behaviour(), Behaviour(errors=250_000)
LIMIT = {"error_rate": 0.05, "requests": 20}
LIVES = {
    "a bad candidate": canary(200, GOOD, BAD, abort_on=LIMIT),
    "little traffic": canary(1, GOOD, GOOD, abort_on=LIMIT, patience="10s"),
    "checks": canary(0, *(GOOD,) * 9, checks=[CHECK]),
}
FOUND_BY = {
    "every candidate is good": ("a bad candidate", "requests failed"),
    "nothing is certain enough": ("a bad candidate", "requests failed"),
    "little traffic passes": ("little traffic", "no more than"),
    "checks are left out": ("checks", "outside was not in favour"),
    "what a check says does not matter": ("checks", "outside was not in favour"),
}


@pytest.mark.parametrize("name", LIVES)
def test_the_lives_are_lived_well_without_a_bug(name: str) -> None:
    result = live(LIVES[name])
    assert not result.broken
    ends = [item.event.outcome for item in result.events if isinstance(item.event, ev.RolloutEnded)]
    assert Outcome.REVERTED in ends
    if name == "checks":
        assert ends.count(Outcome.SUCCEEDED) > 1  # not by this that nothing ever passes


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, attribute, replacement = PLANTED[bug]
    monkeypatch.setattr(target, attribute, replacement)
    name, law = FOUND_BY[bug]
    broken = live(LIVES[name]).broken
    assert broken.startswith("analysis: ")
    assert law in broken
