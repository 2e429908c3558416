"""Rollouts on a platform that keeps sets, from their beginning to their end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import canary, plan, request
from stelae.core.moves import Move
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import FULL_WEIGHT
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.strategy import Step, Strategy, StrategyKind
from stelae.domain.units import SECOND
from stelae.testing.set_world import SetWorld
from tests.unit.core.fixtures import STEPS, environment, release
from tests.unit.core.sets_fixtures import stood

V1, V2, V3 = release("v1"), release("v2"), release("v3")


def intended(made: SetWorld, since: int = 0) -> list[Action]:
    return [event.action for _, event in made.log[since:] if isinstance(event, ev.ActionIntended)]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", ["rolling", "blue-green", "canary", "recreate"])
def test_a_deployment_and_a_rollback_that_fills_an_empty_set_again(kind: str, exact: bool) -> None:
    made = stood(kind, exact=exact, web=3, worker=1)
    made.request(V2)
    made.run()
    assert made.env.deployments["d-2"].outcome is Outcome.SUCCEEDED
    assert made.cluster.sets == {
        (V1.id, "web"): 0, (V1.id, "worker"): 0, (V2.id, "web"): 3, (V2.id, "worker"): 1,
    }  # fmt: skip
    assert (made.running(V1), made.running(V2), made.env.weights) == (0, 4, {V2.id: 1})
    since = len(made.log)
    made.request(V1, request.quick(made.env), DeploymentKind.ROLLBACK)
    made.run()
    assert made.env.deployments["d-3"].outcome is Outcome.SUCCEEDED
    assert (made.running(V1), made.running(V2)) == (4, 0)
    removed = {act.release for act in intended(made, since) if act.verb is Verb.REMOVE_SET}
    assert removed == {V2.id}, "nobody can go back to it"


def test_a_rollback_to_a_warm_release_is_one_act() -> None:
    made = stood("blue-green", web=3, worker=0, bake=600)
    made.request(V2)
    made.run(seconds=5)
    assert made.cluster.sets == {(V1.id, "web"): 3, (V2.id, "web"): 3}, "it is warm"
    since = len(made.log)
    made.request(V1, request.quick(made.env), DeploymentKind.ROLLBACK)
    made.run(seconds=0.1)
    assert made.env.deployments["d-3"].outcome is Outcome.SUCCEEDED
    assert [act.verb for act in intended(made, since)][:1] == [Verb.SET_TRAFFIC]
    assert set(made.cluster.table(made.env, made.now)) == {
        pod.incarnation for pod in made.cluster.pods.values() if pod.key[0] == V1.id
    }  # fmt: skip


@pytest.mark.parametrize("exact", [True, False])
def test_a_superseded_candidate_gives_its_requests_back_and_goes(exact: bool) -> None:
    made = stood("rolling", exact=exact, web=4, worker=0, batch=25, min_healthy=5 * SECOND)
    made.request(V2)
    made.run(seconds=7)
    assert made.env.rollout is not None
    assert made.env.rollout.step == 1
    made.request(V3)
    made.run()
    assert [made.env.deployments[name].outcome for name in ("d-2", "d-3")] == [Outcome.SUPERSEDED, Outcome.SUCCEEDED]
    assert (made.running(V1), made.running(V2), made.running(V3)) == (0, 0, 4)
    assert (V2.id, "web") not in made.cluster.sets, "it was never stable"


def test_an_unreachable_cluster_retires_nothing_and_has_a_deadline() -> None:
    made = stood("rolling", web=2, worker=0)
    made.request(V2)
    before = dict(made.cluster.sets)
    made.reachable = False
    made.run(seconds=3600)
    assert made.env.deployments["d-2"].outcome is Outcome.FAILED
    assert made.cluster.sets == before
    made.reachable = True
    made.run()
    assert (made.running(V1), made.running(V2)) == (2, 0)


@pytest.mark.parametrize("kind", ["rolling", "blue-green", "canary"])
def test_an_evicted_candidate_reverts_nothing(kind: str) -> None:
    made = stood(kind, web=2, worker=0, min_healthy=5 * SECOND)
    made.cluster.drain = SECOND
    made.request(V2)
    made.run(seconds=2)
    [pod, *_] = [pod for pod in made.cluster.pods.values() if pod.key[0] == V2.id]
    made.cluster.end(pod, made.now)
    made.run()
    assert made.env.deployments["d-2"].outcome is Outcome.SUCCEEDED
    assert any(isinstance(event, ev.InstanceEnding) and event.unasked for _, event in made.log)


def test_taken_down_leaves_nothing() -> None:
    made = stood("rolling", web=2, worker=1)
    made.request(V2)
    made.run()
    made.record(ev.EnvironmentStopped())
    made.run()
    assert (made.cluster.sets, made.cluster.pods, made.cluster.weights, made.cluster.hosts) == ({}, {}, None, ())
    assert (made.env.sets, made.env.instances, made.env.weights) == ({}, {}, {})
    made.record(ev.EnvironmentStarted())
    made.run()
    assert made.running(V2) == 3


def test_scaling_in_the_middle_of_a_rollout() -> None:
    made = stood("blue-green", web=2, worker=0, min_healthy=5 * SECOND)
    made.request(V2)
    made.run(seconds=2)
    made.record(ev.Scaled(process="web", count=4))
    made.run()
    assert made.cluster.sets == {(V1.id, "web"): 0, (V2.id, "web"): 4}


# Canaries by ratio


def move(count: int, surge: int = 100, exact: bool = False) -> Move:
    strategy = Strategy(kind=StrategyKind.CANARY, steps=STEPS, surge=surge)
    return Move(strategy=strategy, wanted={"web": count}, candidate=V2, stable=V1, exact=exact)


@pytest.mark.parametrize(
    ("count", "surge", "found"),
    [
        (1, 100, [(1, 1), (1, 1), (1, 1), (1, 1)]),
        (4, 100, [(1, 4), (1, 4), (4, 4), (4, 1)]),
        (20, 100, [(1, 20), (7, 20), (20, 20), (20, 7)]),
        (20, 25, [(1, 20), (6, 19), (13, 12), (19, 6)]),
        (4, 0, [(1, 3), (1, 3), (2, 2), (3, 1)]),
        (1, 0, [(1, 0), (1, 0), (1, 0), (1, 0)]),
    ],
)
def test_as_many_instances_as_come_near_the_share(count: int, surge: int, found: list[tuple[int, int]]) -> None:
    steps = tuple(Step(weight=weight) for weight in (500, 2_500, 5_000, 7_500))
    way = move(count, surge)
    way = replace(way, strategy=replace(way.strategy, steps=steps))
    held = [canary.allocation(way, step) for step in range(4)]
    assert [(of.holding(V2.id, "web").serving, of.holding(V1.id, "web").serving) for of in held] == found
    assert {tuple(of.weights) for of in held} == {()}
    for one in held:
        total = sum(item.serving for item in one.holdings)
        assert total <= one.most.get("web", 2 * count)
        assert total >= count


def test_a_growing_share_never_takes_a_new_instance_back() -> None:
    for count in range(1, 30):
        for surge in (0, 10, 25, 50, 100):
            pairs = [canary._by_ratio(move(count, surge), count, weight) for weight in range(100, FULL_WEIGHT, 100)]
            assert [new for new, _ in pairs] == sorted(new for new, _ in pairs)
            assert [old for _, old in pairs] == sorted((old for _, old in pairs), reverse=True)


def test_a_step_of_nothing_and_the_last_one_lead_to_one_release() -> None:
    steps = (Step(weight=0), Step(weight=5_000))
    way = replace(move(4), strategy=replace(move(4).strategy, steps=steps))
    first, half, last = (canary.allocation(way, step) for step in range(3))
    assert (first.weights, first.holding(V2.id, "web").serving) == ({V1.id: FULL_WEIGHT, V2.id: 0}, 1)
    assert half.weights == {}
    assert last.weights == {V1.id: 0, V2.id: FULL_WEIGHT}
    assert canary.allocation(replace(way, exact=True), 1).weights == {V1.id: 5_000, V2.id: 5_000}


def test_a_canary_by_ratio_gives_what_its_plan_says() -> None:
    made = stood("canary", exact=False, web=4, worker=0, steps=(Step(weight=2_000), Step(weight=5_000)))
    found = plan.plan(made.env, V2, environment("canary").strategy, DeploymentKind.DEPLOY, made.now)
    assert plan.ratio(found.steps[0], {V1.id: V1, V2.id: V2}) == {V1.id: 8_000, V2.id: 2_000}
    since, shares = len(made.log), []
    made.request(V2)
    for _ in range(400):
        wake = made.turn()
        table = made.cluster.table(made.env, made.now)
        new = sum(made.env.instances[name].release == V2.id for name in table if name in made.env.instances)
        shares.append((new, len(table)))
        made.now = made.now if wake == made.now else made.now + SECOND // 50
    assert made.env.deployments["d-2"].outcome is Outcome.SUCCEEDED
    assert {(1, 5), (4, 8), (4, 4)} <= set(shares)
    assert intended(made, since)
