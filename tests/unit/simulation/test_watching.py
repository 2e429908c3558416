"""Watches in random lives: none claims a time in which nobody looked, and together they claim what was looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stelae.controller.watching import Watch, Watches
from stelae.core import coverage
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import EnvironmentWatched
from stelae.domain.observation import Observation
from stelae.domain.units import SECOND
from stelae.testing.controller import Controller
from stelae.testing.faults import LookFault, Point
from stelae.testing.life import Life, Step, draw
from stelae.testing.simulation import Result, live
from stelae.testing.things import Behaviour

SEEDS = range(60)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A life is short: let a watch be too."""
    monkeypatch.setattr(Controller, "watched_every", 2 * SECOND)


def watches(result: Result) -> list[EnvironmentWatched]:
    return [item.event for item in result.events if isinstance(item.event, EnvironmentWatched)]


def life(*steps: Step) -> Life:
    """A life of one environment that goes well for half a minute, and then these *steps*."""
    drawn = next(life for seed in range(99) if (life := draw(str(seed))).environments == ("testing",))
    settings = {
        "env": "testing", "web": 2, "worker": 0, "bake": "0s", "level": "info", "promote": False,
        "strategy": {"kind": "rolling", "min_healthy": "0s", "progress": "60s", "platform": "5m"},
    }  # fmt: skip
    deploy = {"env": "testing", "image": 0, "strategy": "", "supersede": True}
    begin = (Step(what="apply", args=settings), Step(what="deploy", args=deploy, wait=30))
    return replace(drawn, behaviours=(Behaviour(),), steps=(*begin, *steps))


DEAD = life(
    Step(what="crash", args={"point": Point.BEFORE_ACT, "countdown": 1, "ghost": None, "away": 60}),
    Step(what="scale", args={"env": "testing", "process": "web", "count": 4}, wait=40),
)  # fmt: skip
SILENT = life(Step(what="look-fault", args={"fault": LookFault.UNAVAILABLE, "seconds": 60}, wait=100))
PART = life(Step(what="look-fault", args={"fault": LookFault.INCOMPLETE, "seconds": 60}, wait=100))
OLD = life(Step(what="look-fault", args={"fault": LookFault.STALE, "seconds": 60}, wait=100))


def test_no_watch_claims_what_nobody_looked_at_in_any_life() -> None:
    found = gaps = 0
    for seed in SEEDS:
        result = live(draw(f"watched {seed}"))
        assert not result.broken, (seed, result.broken)
        found += len(watches(result))
        gaps += sum(len(item.gaps) for item in watches(result))
    assert found > len(SEEDS) * 4
    assert gaps > 5


@pytest.mark.parametrize(
    ("lived", "why"),
    [(DEAD, coverage.UNWATCHED), (SILENT, "did not answer"), (PART, "could not be asked"), (OLD, "nobody looked")],
)  # fmt: skip
def test_a_time_without_a_look_is_missing_whatever_the_reason(lived: Life, why: str) -> None:
    result = live(lived)
    assert not result.broken
    found = watches(result)
    whole = coverage.looks(found, found[0].since, found[-1].until)
    assert [why in gap.why for gap in whole.gaps] == [True]
    assert 55 * SECOND < whole.missing < 75 * SECOND
    assert 0 < whole.share < 10_000


def test_what_is_always_looked_at_is_covered_wholly() -> None:
    found = watches(live(life(Step(what="scale", args={"env": "testing", "process": "web", "count": 4}, wait=60))))
    assert coverage.looks(found, found[0].since, found[-1].until).share == 10_000
    assert sum(item.looks for item in found) >= (found[-1].until - found[0].since) // (5 * SECOND)
    assert found[-1].phases == {"ready": 4}


PLANTED: dict[str, tuple[Life, Callable[[pytest.MonkeyPatch], None]]] = {}


def planted(life_of: Life) -> Callable[[Any], Any]:
    """Enter a bug, and a life in which it is seen."""

    def enter(plant: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
        PLANTED[plant.__name__] = life_of, plant
        return plant

    return enter


@planted(DEAD)
def claims_the_time_in_which_the_controller_was_dead(patch: pytest.MonkeyPatch) -> None:
    kept: dict[EnvironmentId, Watch] = {}
    patch.setattr(Watches, "of", lambda self, name: kept.setdefault(name, Watch(self._every)))
    patch.setattr("stelae.controller.watching.LOOK_BOUND", 10**12)


@planted(SILENT)
def takes_no_answer_for_a_look(patch: pytest.MonkeyPatch) -> None:
    looked = Watch.looked

    def careless(self: Watch, seen: Any) -> None:
        looked(self, seen or (self._since and Observation(as_of=self._last + SECOND, applied=0)))

    patch.setattr(Watch, "looked", careless)


@planted(PART)
def takes_a_part_for_the_whole(patch: pytest.MonkeyPatch) -> None:
    looked = Watch.looked
    patch.setattr(Watch, "looked", lambda self, seen: looked(self, seen and replace(seen, complete=True)))


@planted(OLD)
def forgets_the_gaps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("stelae.core.coverage.merged", lambda gaps, since, until: ())


@pytest.mark.parametrize("bug", PLANTED)
def test_a_watch_that_claims_too_much_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lived, plant = PLANTED[bug]
    assert not live(lived).broken
    plant(monkeypatch)
    assert "watch of" in live(lived).broken
