"""Bugs planted into automatic scaling are found, each by a life that was made for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stelae.core import autoscale
from stelae.core.samples import Interval
from stelae.domain.units import SECOND
from stelae.testing.faults import LookFault
from stelae.testing.life import Life, Step
from stelae.testing.simulation import live
from stelae.testing.things import Behaviour

_WEB = '{ min = 1, max = 4, target_rps = 10, down = { window = "2s", share = "100%", period = "1s" } }'
_STRATEGY = {"kind": "rolling", "min_healthy": "0s", "progress": "60s", "platform": "20s"}


def _step(what: str, wait: float = 0.0, **args: Any) -> Step:
    return Step(what=what, args={"env": "testing", **args}, wait=wait)


def _deploy(image: int, wait: float) -> Step:
    return _step("deploy", wait, image=image, strategy="", supersede=True)


def _life(*steps: Step) -> Life:
    settings = {"web": _WEB, "worker": 0, "bake": "0s", "level": "info", "promote": False, "strategy": _STRATEGY}
    begin = (_step("apply", **settings), _deploy(0, wait=5))
    slow = Behaviour(ready_after=4 * SECOND)
    return Life(seed="", behaviours=(Behaviour(), slow), environments=("testing",), steps=(*begin, *steps))


LIVES = {
    "a load that is more than the most is for": _life(_step("load", 20, rate=100), _step("load", 20, rate=0)),
    "a load that falls during a rollout": _life(
        _step("load", 30, rate=39), _deploy(1, wait=3), _step("load", 30, rate=5)
    ),
    "counts that get lost, and are not told": _life(
        _step("load", 30, rate=39), _step("look-fault", 30, fault=LookFault.UNCOUNTED, seconds=20),
        _step("lose-counts", 30),
    ),
}  # fmt: skip


def _unknown_is_nothing(requests: Callable[[Any], int | None]) -> Callable[[Any], int]:
    return lambda interval: requests(interval) or 0


PLANTED: dict[str, tuple[str, Any, str, Any]] = {
    "more than the most": (
        "a load that is more than the most is for", autoscale, "_within", lambda _, count: count,
    ),
    "fewer during a rollout": ("a load that falls during a rollout", autoscale, "_may_lower", lambda _: True),
    "what nobody counted is no load (law 11)": (
        "counts that get lost, and are not told", Interval, "requests", _unknown_is_nothing(Interval.requests),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
def test_no_law_is_broken(name: str) -> None:
    result = live(LIVES[name])
    assert not result.broken, "\n".join([result.broken, *result.story])
    counts = [item.event for item in result.events if item.actor == "autoscale"]
    assert counts, "nothing was scaled"


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, target, attribute, wrong = PLANTED[bug]
    monkeypatch.setattr(target, attribute, wrong)
    broken = live(LIVES[name]).broken
    assert "scaled from" in broken, broken
