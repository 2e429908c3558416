"""Canaries in a world under a virtual clock: shares, counts, chosen users, and what goes wrong on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.allocation import Route, RouteKind
from stelae.domain.environment import Environment
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.strategy import Gate, Match, MatchKind, Step, Strategy, StrategyKind
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.world import World
from tests.unit.core.fixtures import STEPS, deployed, environment, outcome, release

V1, V2, V3 = release("v1"), release("v2"), release("v3")
SOAK = 10 * SECOND


def steps(*weights: int, **gate: Any) -> tuple[Step, ...]:
    return tuple(Step(weight=weight * 100, gate=Gate(**gate)) for weight in weights)


def canary(web: int = 4, **more: Any) -> World:
    """A world in which V1 is stable and V2 is a canary that soaks 10 s at 5, 25 and 50 %."""
    more.setdefault("steps", steps(5, 25, 50, soak=SOAK))
    return deployed("canary", web=web, worker=1, **more)


def share(made: World, of: Release) -> float:
    """The share of the traffic of *of*, in percent."""
    total = sum(made.table.values())
    return 100 * sum(weight for name, weight in made.table.items() if made.things[name].release == of.id) / total


def instances(made: World, of: Release, process: str = "web") -> int:
    return sum(
        1 for thing in made.things.values() if (thing.release, thing.process, thing.ended) == (of.id, process, None)
    )


@pytest.mark.parametrize("web", [1, 2, 3, 10])
def test_the_candidate_has_its_share_at_each_step_and_as_many_instances_as_that_needs(web: int) -> None:
    made = canary(web, gate=Gate(soak=SOAK))
    name = made.request(V2)
    seen = []
    for _ in range(4):
        made.run(seconds=5)
        assert made.env.rollout is not None
        seen.append((made.env.rollout.step, round(share(made, V2)), instances(made, V2), instances(made, V1)))
        made.run(seconds=6)
    needed = [max(1, -(-web * percent // 100)) for percent in (5, 25, 50)]
    assert seen == [(0, 5, needed[0], web), (1, 25, needed[1], web), (2, 50, needed[2], web), (3, 100, web, web)]
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert (made.running(V1), made.running(V2)) == (0, web + 1)


def test_the_share_grows_with_the_instances_that_are_ready_and_never_beyond_the_step() -> None:
    made = canary(10, steps=steps(50, soak=SOAK))
    name = made.request(V2)
    for _ in range(400):
        made.behave(V2, ready_after=(1 + len(made.things) % 7) * SECOND)
        before = len(made.log)
        made.run(seconds=0.2)
        for _, event in made.log[before:]:
            if isinstance(event, ev.ActionIntended) and event.action.verb is Verb.ROUTE:
                table = event.action.table
                ours = sum(weight for item, weight in table.items() if made.env.instances[item].release == V2.id)
                if made.env.rollout is not None and made.env.rollout.step == 0:
                    assert ours / sum(table.values()) <= 0.51
        if outcome(made, name):
            break
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_with_less_surge_the_old_release_keeps_what_its_share_needs() -> None:
    made = canary(10, surge=20, steps=steps(10, 50, soak=SOAK))
    made.request(V2)
    counts = []
    for _ in range(2):
        made.run(seconds=8)
        counts.append((instances(made, V1), instances(made, V2)))
        made.run(seconds=4)
    assert counts == [(10, 1), (7, 5)]


@pytest.mark.parametrize("kind", ["rolling", "canary"])
@pytest.mark.parametrize(("surge", "floor"), [(0, 50), (0, 75), (25, 100), (50, 80), (0, 100)])
def test_there_are_never_more_instances_than_the_surge_allows(kind: str, surge: int, floor: int) -> None:
    given = {"steps": STEPS} if kind == "canary" else {"batch": 50}
    made = deployed(kind, web=4, worker=0, surge=surge, floor=floor, **given)
    made.behave(V1, drains=5 * SECOND)
    made.behave(V2, ready_after=SECOND)
    name = made.request(V2)
    most = 0
    while outcome(made, name) is None:
        made.run(seconds=0.1)
        there = sum(1 for thing in made.things.values() if thing.ended is None)
        most = max(most, there)
    assert outcome(made, name) is Outcome.SUCCEEDED
    room = 4 + 4 * surge // 100
    assert most <= (max(room, 5) if kind == "canary" else room), "a canary needs one of each at least"
    made.run(seconds=60)
    assert (made.running(V1), made.running(V2)) == (0, 4)


def test_a_batch_may_be_a_number() -> None:
    made = deployed("rolling", web=5, worker=0, batch_count=2)
    made.request(V2)
    made.run()
    targets = [event.allocation for _, event in made.log if isinstance(event, ev.AllocationSet)]
    held = [(item.holding(V1.id, "web").serving, item.holding(V2.id, "web").serving) for item in targets]
    assert held[-4:] == [(5, 2), (3, 4), (1, 5), (0, 5)]


def test_chosen_users_are_led_to_the_candidate_while_it_shares_the_traffic() -> None:
    match = Match(kind=MatchKind.HEADER, name="X-Beta", value="1")
    made = canary(matches=(match,), sticky=True, preview="next.example.com")
    made.request(V2)
    made.run(seconds=5)
    assert made.env.routes == (
        Route(kind=RouteKind.HOST, release=V2.id, name="next.example.com"),
        Route(kind=RouteKind.HEADER, release=V2.id, name="X-Beta", value="1"),
        Route(kind=RouteKind.STICKY, release=V2.id),
    )
    made.run(seconds=30)
    assert share(made, V2) == 100
    assert not made.env.routes[:]


def test_a_first_step_of_no_share_is_for_chosen_users_only() -> None:
    made = canary(steps=steps(0, 50, soak=SOAK), matches=(Match(kind=MatchKind.COOKIE, name="beta"),))
    made.request(V2)
    made.run(seconds=5)
    [ours] = [name for name in made.table if made.things[name].release == V2.id]
    assert made.table[ours] == 0, "it gets only what a route leads to it"
    assert share(made, V2) == 0
    made.run(seconds=10)
    assert share(made, V2) == 50


def test_a_preview_leads_to_the_candidate_before_the_switch_and_nowhere_after_it() -> None:
    made = deployed("blue-green", web=2, worker=0, preview="next.example.com", gate=Gate(soak=SOAK))
    made.request(V2)
    made.run(seconds=5)
    assert made.env.routes == (Route(kind=RouteKind.HOST, release=V2.id, name="next.example.com"),)
    assert (share(made, V1), len(made.table)) == (100, 4)
    made.run(seconds=10)
    assert (share(made, V2), len(made.env.routes[:]), len(made.table)) == (100, 0, 2)


def test_a_superseded_canary_goes_to_no_share_drains_and_retires_and_stable_stays() -> None:
    made = canary(4)
    made.behave(V2, drains=5 * SECOND)
    first = made.request(V2)
    made.run(seconds=15)
    assert round(share(made, V2)) == 25
    made.request(V3)
    made.run(seconds=2)
    assert outcome(made, first) is Outcome.SUPERSEDED
    assert (made.env.stable, share(made, V2), round(share(made, V3))) == (V1.id, 0, 5)
    assert instances(made, V2) == 1, "its requests end before it does"
    made.run(seconds=5)
    assert instances(made, V2) == 0
    assert instances(made, V1) == 4
    made.run()
    assert (made.running(V1), made.running(V2), made.running(V3)) == (0, 0, 5)


def test_a_canary_that_dies_late_is_reverted_at_once_with_its_last_lines() -> None:
    made = canary(4)
    made.behave(V2, exits_after=25 * SECOND)
    name = made.request(V2)
    made.run(seconds=26)
    done = made.env.deployments[name]
    assert done.outcome is Outcome.REVERTED
    assert "exited with status 1 after it was ready" in done.why
    assert (share(made, V1), instances(made, V1)) == (100, 4)


def test_a_scale_in_the_middle_of_a_canary_is_part_of_it() -> None:
    made = canary(4)
    name = made.request(V2)
    made.run(seconds=15)
    made.record(ev.Scaled(process="web", count=8))
    made.run(seconds=2)
    assert (instances(made, V1), instances(made, V2)) == (8, 2)
    assert round(share(made, V2)) == 25
    made.record(ev.Scaled(process="web", count=2))
    made.run(seconds=2)
    assert (instances(made, V1), instances(made, V2), round(share(made, V2))) == (2, 1, 25)
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_the_strategy_of_a_rollout_is_the_one_that_it_began_with() -> None:
    made = canary(4)
    name = made.request(V2)
    made.run(seconds=5)
    config = made.env.config
    assert isinstance(config, Environment)
    rolling = replace(config, strategy=Strategy(kind=StrategyKind.ROLLING))
    made.record(ev.EnvironmentApplied(environment=rolling))
    made.run(seconds=8)
    assert made.env.rollout is not None
    assert made.env.rollout.strategy.kind is StrategyKind.CANARY
    assert round(share(made, V2)) == 25
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    made.request(V3)
    assert made.env.rollout
    assert made.env.rollout.strategy == rolling.strategy, "the next one has the new one"


@pytest.mark.parametrize("kind", ["recreate", "rolling", "blue-green", "canary"])
def test_a_rollback_in_the_middle_supersedes_and_waits_for_nobody(kind: str) -> None:
    gate = Gate(soak=60 * SECOND, manual=kind != "recreate")
    given: dict[str, Any] = {"steps": steps(5, 50, soak=60 * SECOND)} if kind == "canary" else {}
    made = deployed(kind, gate=gate, **given)
    first = made.request(V2)
    made.run(seconds=10)
    config = made.env.config
    assert config is not None
    quick = replace(config.strategy, kind=StrategyKind.BLUE_GREEN, gate=Gate(), steps=(), min_healthy=0)
    name = made.request(V1, quick, DeploymentKind.ROLLBACK)
    made.run(seconds=5)
    assert (outcome(made, first), outcome(made, name)) == (Outcome.SUPERSEDED, Outcome.SUCCEEDED)
    made.run(seconds=60)
    assert (made.running(V1), made.running(V2), made.env.stable) == (5, 0, V1.id)


def test_shares_are_exact_as_far_as_the_scale_of_the_router_goes() -> None:
    for weight in (1, 2, 5, 10, 33, 99):
        made = canary(3, steps=steps(weight, soak=SOAK))
        made.request(V2)
        made.run(seconds=5)
        assert abs(share(made, V2) - weight) <= 0.25, weight


def test_the_events_of_a_rollout_that_is_not_under_way_change_nothing() -> None:
    made = canary(4)
    made.request(V2)
    for event in (
        ev.StepHeld(deployment="d-1", step=0), ev.RolloutPaused(deployment="d-1"),
        ev.RolloutHurried(deployment="d-1"), ev.GateOpened(deployment="d-1", step=0),
        ev.RolloutResumed(deployment="d-1"), ev.PersonAwaited(deployment="d-1", reason="x"),
        ev.StepHeld(deployment="d-2", step=7),
    ):  # fmt: skip
        assert evolve(made.env, event, made.now, "ana") == made.env
    assert environment("canary").strategy.steps == STEPS
    assert made.now % MILLISECOND == 0
