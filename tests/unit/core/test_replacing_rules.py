"""Who decides about an instance that drifted, and what makes room for its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import replacing
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.drift import WINDOW, Drift, Drifted, DriftPolicy, DriftState, Storm
from stelae.domain.state import DeploymentKind, EnvironmentState, Instance, Phase
from stelae.domain.strategy import Strategy, StrategyKind
from tests.unit.core.fixtures import ROLLOUT, V1, V2, environment, one, state

WEB = InstanceId("web-1")
OURS = one(WEB, release=V2.id, launched_at=ROLLOUT.started_at)


@pytest.mark.parametrize(
    ("instance", "change", "judged"),
    [
        (OURS, {}, True),
        (replace(OURS, launched_at=ROLLOUT.started_at - 1), {}, False),
        (replace(OURS, release=V1.id), {}, False),
        (OURS, {"kind": DeploymentKind.ROLLBACK}, False),
        (OURS, {"phase": Phase.REVERTING}, False),
        (OURS, {"phase": Phase.WAITING}, False),
    ],
)
def test_a_rollout_judges_what_it_launched_of_its_candidate(
    instance: Instance, change: dict[str, Any], judged: bool
) -> None:
    rollout = replace(ROLLOUT, **change)
    assert replacing.is_judged(state(instance, rollout=rollout), instance) is judged
    assert not replacing.is_judged(state(instance), instance)


def held(*counts: int) -> Allocation:
    """Holdings of that many of ``web``, each of another release, with the floor of all of them."""
    releases = (V1.id, V2.id)
    holdings = tuple(
        Holding(release=name, process="web", serving=count) for name, count in zip(releases, counts, strict=False)
    )
    return Allocation(holdings=holdings, floor={"web": sum(counts)})


RECREATE = Strategy(kind=StrategyKind.RECREATE)


def test_with_recreate_there_is_room_for_as_many_as_are_held() -> None:
    env = state(one(WEB), config=environment("recreate"))
    made = replacing.ended_first(env, held(2, 3), frozenset({WEB}))
    assert (made.floor, made.most) == ({"web": 4}, {"web": 5})
    none = replacing.ended_first(env, Allocation(), frozenset({WEB}))
    assert (none.floor, none.most) == ({}, {"web": 0})
    assert replacing.ended_first(env, held(2), frozenset()) == held(2)
    assert replacing.ended_first(replace(env, config=None), held(2), frozenset({WEB})) == held(2)
    assert replacing.ended_first(state(one(WEB)), held(2), frozenset({WEB})) == held(2)


@pytest.mark.parametrize(
    ("phase", "room"),
    [(Phase.FORWARD, True), (Phase.REVERTING, True), (Phase.WAITING, False), (Phase.PREPARING, False)],
)
def test_a_rollouts_own_strategy_counts_once_it_holds_something(phase: Phase, room: bool) -> None:
    env = state(one(WEB), rollout=replace(ROLLOUT, phase=phase, strategy=RECREATE))
    made = replacing.ended_first(env, held(2), frozenset({WEB}))
    assert made.most == ({"web": 2} if room else {})


def drifted(count: int, **more: Any) -> EnvironmentState:
    """Four of ``web`` are wanted and run, and so many of them drifted at 0."""
    found = Drifted(drift=Drift.PROCESS, what="x", since=0)
    names = [InstanceId(f"web-{number}") for number in range(4)]
    there = [one(name, ready_at=1, drift=(found,) if number < count else ()) for number, name in enumerate(names)]
    policy = DriftPolicy(storm=100)
    return state(*there, config=replace(environment(), drift=policy), wanted={"web": 4}, **more)


def test_a_storm_says_when_and_of_how_many_and_what_was_long_ago_is_forgotten() -> None:
    recent = {InstanceId(f"old-{number}"): 1000 for number in range(3)}
    env = drifted(2, drift=DriftState(recent=recent))
    assert replacing.storm(env, 1000 + WINDOW - 1) == Storm(at=999 + WINDOW, found=5, of=4)
    assert replacing.storm(env, 1000 + WINDOW) is None
    assert replacing.storm(drifted(2, down=True), 7) == Storm(at=7, found=2, of=0)


def test_one_at_a_time_is_replaced_where_a_rollout_would_add_one() -> None:
    assert list(replacing.condemned(drifted(2), 7)) == ["web-0"]
    env = drifted(3)
    assert env.config is not None
    half = replace(env, config=replace(env.config, strategy=replace(env.config.strategy, batch=50)))
    assert list(replacing.condemned(half, 7)) == ["web-0", "web-1"]
