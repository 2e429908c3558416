"""What a plan shows is what happens."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.core import backoff, fold, request
from stelae.core.plan import Count, plan, ratio
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.check import CheckVerdict
from stelae.domain.drift import Drift
from stelae.domain.event import Recorded
from stelae.domain.observation import Exit
from stelae.domain.promotion import Window
from stelae.domain.release import Release
from stelae.domain.run import RunOutcome
from stelae.domain.state import Backoff, DeploymentKind, InstallationState, Outcome, Phase
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.domain.units import SECOND
from stelae.testing.things import Behaviour
from stelae.testing.world import World
from tests.unit.core.fixtures import WEB, WORKER, deployed, environment, release, world
from tests.unit.core.test_random import _behaviour, _happen

V1, V2 = release("v1"), release("v2")


def held(found: Allocation) -> dict[str, tuple[int, int]]:
    names = {V1.id: "v1", V2.id: "v2"}
    return {f"{names[item.release]} {item.process}": (item.serving, item.warm) for item in found.holdings}


def test_a_rolling_deployment() -> None:
    made = deployed("rolling", web=2, worker=1, bake=60, batch=50)
    new = replace(V2, settings={"NEW": "1", "SAME": "x", "LEVEL": "debug"})
    old = replace(V1, settings={"OLD": "1", "SAME": "x", "LEVEL": "info"})
    made.env = replace(made.env, revision=17, releases={old.id: old}, stable=old.id)
    strategy = request.strategy(made.env, "")
    found = plan(made.env, new, strategy, DeploymentKind.DEPLOY, made.now)
    assert (found.environment, found.index, found.kind) == ("shop/test", 17, DeploymentKind.DEPLOY)
    assert (found.release, found.previous, found.strategy) == (new, old, strategy)
    assert found.counts == {"web": Count(now=2, then=2), "worker": Count(now=1, then=1)}
    assert found.settings == {"LEVEL": "changed", "NEW": "added", "OLD": "removed"}
    assert list(found.settings) == sorted(found.settings)
    assert found.warm == {old.id: made.now + 60 * SECOND}
    assert not found.nothing
    assert {item.generation for item in (*found.steps, found.after)} == {0}


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        (
            "rolling",
            [
                {"v1 web": (2, 0), "v2 web": (1, 0), "v1 worker": (1, 0)},
                {"v1 web": (1, 1), "v2 web": (2, 0), "v1 worker": (1, 0)},
                {"v1 web": (0, 2), "v2 web": (2, 0), "v1 worker": (1, 0), "v2 worker": (1, 0)},
            ],
        ),
        ("recreate", [{}, {"v2 web": (2, 0), "v2 worker": (1, 0)}]),
        (
            "blue-green",
            [
                {"v2 web": (2, 0), "v1 web": (2, 0), "v1 worker": (1, 0)},
                {"v2 web": (2, 0), "v1 web": (2, 0), "v1 worker": (1, 0)},
                {"v2 web": (2, 0), "v2 worker": (1, 0), "v1 web": (2, 0), "v1 worker": (1, 0)},
            ],
        ),
    ],
)
def test_the_steps(kind: str, steps: list[dict[str, tuple[int, int]]]) -> None:
    made = deployed("rolling", web=2, worker=1, bake=60, batch=50)
    strategy = replace(request.strategy(made.env, kind))
    found = plan(made.env, V2, strategy, DeploymentKind.DEPLOY, made.now)
    assert [held(step) for step in found.steps] == steps
    warm = {} if kind == "recreate" else {"v1 web": (0, 2)}
    assert held(found.after) == {"v2 web": (2, 0), "v2 worker": (1, 0), **warm}
    if kind == "blue-green":
        assert [step.weights[V2.id] for step in found.steps] == [0, 10_000, 10_000]


def test_a_first_deployment_and_one_that_was_taken_down() -> None:
    made = world("rolling", web=3, worker=0)
    found = plan(made.env, V1, Strategy(), DeploymentKind.DEPLOY, made.now)
    assert (found.previous, found.counts, len(found.steps)) == (None, {"web": Count(now=0, then=3)}, 1)
    made = deployed("rolling", web=3, worker=0)
    made.record(ev.EnvironmentStopped())
    found = plan(made.env, V1, Strategy(), DeploymentKind.DEPLOY, made.now)
    assert (found.counts, found.nothing) == ({"web": Count(now=0, then=3)}, False)


def test_nothing_changes_when_the_release_serves_already() -> None:
    made = deployed("rolling", web=2)
    assert plan(made.env, V1, Strategy(), DeploymentKind.DEPLOY, made.now).nothing
    made.request(V2)
    assert not plan(made.env, V1, Strategy(), DeploymentKind.DEPLOY, made.now).nothing, "a rollout is under way"
    assert not plan(made.env, V2, Strategy(), DeploymentKind.DEPLOY, made.now).nothing


def test_what_instances_do_at_the_moment_is_not_in_a_plan() -> None:
    made = deployed("rolling", web=2, worker=0)
    before = plan(made.env, V2, Strategy(), DeploymentKind.DEPLOY, made.now)
    for _ in range(6):
        for thing in made.things.values():
            thing.ended = thing.ended or Exit(code=1, at=made.now)
        made.run(seconds=0.3)
    assert any(pause.until > made.now for pause in made.env.backoff.values())
    after = plan(made.env, V2, Strategy(), DeploymentKind.DEPLOY, made.now)
    assert (after.steps, after.after, after.counts) == (before.steps, before.after, before.counts)


def test_what_is_still_there_of_another_release_is_not_in_a_plan() -> None:
    made = deployed("recreate", web=2, worker=0)
    made.request(V2)
    made.behaviours[V2.id] = Behaviour(ready_after=None)
    made.run(seconds=25)
    assert {thing.release for thing in made.things.values() if thing.ended is None} == {V2.id}
    found = plan(made.env, V1, request.quick(made.env), DeploymentKind.ROLLBACK, made.now)
    assert [held(step) for step in found.steps] == [{"v1 web": (2, 0)}]
    assert found.counts == {"web": Count(now=2, then=2)}


def test_the_counts_are_those_of_the_stable_release() -> None:
    made = deployed("blue-green", web=2, worker=0, bake=600)
    made.request(V2)
    made.run(seconds=0.01)
    assert made.env.rollout is not None
    assert sum(item.serving for item in made.env.allocation.holdings) == 4, "both are there, side by side"
    found = plan(made.env, release("v3"), Strategy(), DeploymentKind.DEPLOY, made.now)
    assert found.counts == {"web": Count(now=2, then=2)}
    made.run()
    alone = release("v3", WORKER)
    made.record(ev.EnvironmentApplied(environment=environment(web=0, worker=1, bake=600)))
    found = plan(made.env, alone, Strategy(), DeploymentKind.DEPLOY, made.now)
    assert found.counts == {"worker": Count(now=1, then=1)}


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from([item.value for item in StrategyKind]),
    events=st.integers(0, 8),
    back=st.booleans(),
)
def test_what_a_plan_shows_is_what_happens(seed: int, kind: str, events: int, back: bool) -> None:
    """After any life, a deployment of what works, or a rollback, goes through the steps of its plan to its end."""
    chance = random.Random(seed)
    made = World.of(
        environment(
            kind, web=chance.randrange(1, 5), worker=chance.randrange(3), batch=chance.choice([10, 25, 50, 100]),
            bake=0 if kind == "recreate" else chance.choice([0, 30]),
        )
    )  # fmt: skip
    for number in range(6):
        made.behaviours[release(f"v{number}").id] = _behaviour(chance)
    for _ in range(events):
        _happen(made, chance)
        made.run(seconds=chance.choice([0.01, 0.1, 1, 10, 60]))
    made.reachable = made.complete = True
    made.behaviours.clear()  # from now on everything works
    for thing in made.things.values():
        thing.behaviour = Behaviour()
    made.run(seconds=1)  # and what broke before is seen
    if back and made.env.stables:
        chosen, why = made.env.releases[chance.choice(made.env.stables)], DeploymentKind.ROLLBACK
        strategy = request.quick(made.env)
    else:
        chosen, why = release("v9"), DeploymentKind.DEPLOY
        strategy = environment(chance.choice([item.value for item in StrategyKind])).strategy
    found = plan(made.env, chosen, strategy, why, made.now)
    name = made.request(chosen, strategy, why)
    steps, after = _carried_out(made, name)
    assert made.env.deployments[name].outcome is Outcome.SUCCEEDED
    assert made.env.stable == found.release.id
    passed = [
        event.step for _, event in made.log if isinstance(event, ev.RolloutAdvanced) and event.deployment == name
    ]
    assert passed == list(range(1, len(found.steps)))
    for happened, planned in [*((steps[n], found.steps[n]) for n in steps), (after, found.after)]:
        assert _of(happened, chosen) == _of(planned, chosen)
        assert happened.weights == planned.weights
        for item in planned.holdings:  # of the old release there is less where its instances do not run
            assert happened.holding(item.release, item.process).total <= item.total
        assert {item.release for item in happened.holdings} <= {item.release for item in planned.holdings}
    assert set(made.env.warm) == set(found.warm)


def _of(found: Allocation, of: Release) -> list[tuple[str, int, int]]:
    return [(item.process, item.serving, item.warm) for item in found.holdings if item.release == of.id]


def _carried_out(made: World, name: str) -> tuple[dict[int, Allocation], Allocation]:
    """Run the rollout to its end; return what was held last at each step (but not at those that were done before
    they began, such as waiting for a release that is warm), and what was held in the end."""
    steps: dict[int, Allocation] = {}
    for _ in range(20_000):
        wake = made.turn()
        if made.env.rollout is None:
            return steps, made.env.allocation
        steps[made.env.rollout.step] = made.env.allocation
        made.now = made.now if wake == made.now else min(wake or made.now + SECOND, made.now + SECOND // 10)
    raise AssertionError(f"{name} never ended")


REVISING = [
    ev.EnvironmentApplied(environment=environment()),
    ev.EnvironmentStopped(),
    ev.EnvironmentStarted(),
    ev.Scaled(process="web", count=3),
    ev.DeploymentRequested(
        deployment="d-1", deployment_kind=DeploymentKind.DEPLOY, release=V1, strategy=Strategy()
    ),
    ev.RolloutReverting(deployment="d-1", ending=Outcome.REVERTED, reason="it broke"),
    ev.RolloutEnded(deployment="d-1", outcome=Outcome.SUCCEEDED),
    ev.SecretSet(name="KEY", version=1, file="0" * 32),
    ev.SecretRevoked(name="KEY", version=1, reason="it leaked"),
]  # fmt: skip
ROUTINE = [
    ev.RunRequested(run=InstanceId("run-x-9"), release=V1.id),
    ev.RunEnding(run=InstanceId("run-x-9"), outcome=RunOutcome.CANCELLED, reason="x"),
    ev.RunEnded(run=InstanceId("run-x-9"), outcome=RunOutcome.CANCELLED),
    ev.CheckMeasured(deployment="d-1", step=0, check="x", verdict=CheckVerdict.PASS),
    ev.SecretWiped(name="KEY", version=1),
    ev.RolloutAdvanced(deployment="d-1", step=1),
    ev.RolloutPhase(deployment="d-1", phase=Phase.FORWARD),
    ev.StepHeld(deployment="d-1", step=0),
    ev.PersonAwaited(deployment="d-1", reason="whether it may go on"),
    ev.GateOpened(deployment="d-1", step=0),
    ev.RolloutPaused(deployment="d-1"),
    ev.RolloutResumed(deployment="d-1"),
    ev.RolloutHurried(deployment="d-1"),
    ev.RequestRefused(request="deploy", reason="no"),
    ev.PlatformLost(reason="gone"),
    ev.PlatformBack(),
    ev.ImageVerified(image=V1.image, release=V1.id, deployment="d-1", since=0),
    ev.VerificationSigned(image=V1.image, deployment="d-1", key="k-1", statement=V1.image),
    ev.VerificationAccepted(
        image=V1.image, verifies=environment().id, key="k-1", statement="", release=V1.id, verified_at=0
    ),
    ev.DeploymentApproved(deployment="d-1", release=V1.id),
    ev.FreezeKnown(),
    ev.FreezePassed(deployment="d-1", window=Window(begins=0, ends=1)),
    ev.NotificationFailed(index=1, to="example.com", problem="gone"),
    ev.WarmEnded(release=V1.id),
    ev.AllocationSet(allocation=Allocation()),
    ev.ActionIntended(action=Action(number=1, verb=Verb.ROUTE)),
    ev.ActionDone(number=1),
    ev.InstanceReady(instance=InstanceId("web-1")),
    ev.InstanceUnready(instance=InstanceId("web-1")),
    ev.InstanceExited(instance=InstanceId("web-1"), exit=Exit(code=1, at=0)),
    ev.InstanceLost(instance=InstanceId("web-1")),
    ev.InstanceSeen(instance=InstanceId("web-1"), release=V1.id, process="web"),
    ev.InstanceEnding(instance=InstanceId("web-1")),
    ev.InstanceGone(instance=InstanceId("web-1")),
    ev.DriftFound(instance=InstanceId("web-1"), drift=Drift.MONITOR, what="x"),
    ev.DriftEnded(instance=InstanceId("web-1"), drift=Drift.MONITOR, what="x"),
    ev.DriftStorm(found=2, of=3),
    ev.EnvironmentWatched(since=0, until=1, looks=1, bound=1),
    ev.ReplacementRequested(instances=(InstanceId("web-1"),), reason="x"),
]


def test_a_plan_during_a_rollout_begins_with_what_is_stable() -> None:
    made = deployed("recreate", web=2, worker=0)
    made.behave(V2, ready_after=None)
    made.request(V2)
    made.run(seconds=1)
    assert made.env.allocation.holdings != ()
    strategy = request.strategy(made.env, "rolling")
    found = plan(made.env, release("v3"), strategy, DeploymentKind.DEPLOY, made.now)
    assert found.counts == {"web": Count(now=2, then=2)}


def test_back_off_is_not_in_a_plan() -> None:
    made = deployed("rolling", web=2, worker=0)
    pause = Backoff(failures=9, until=made.now + SECOND)
    made.env = replace(made.env, backoff={backoff.key(V1.id, "web"): pause})
    found = plan(made.env, V2, request.strategy(made.env, ""), DeploymentKind.DEPLOY, made.now)
    assert found.counts == {"web": Count(now=2, then=2)}
    assert held(found.steps[0]) == {"v1 web": (2, 0), "v2 web": (1, 0)}


def test_the_revision_is_the_newest_event_that_a_plan_must_know_of() -> None:
    env = environment().id
    for event in REVISING:
        state = InstallationState()
        for index, item in enumerate([REVISING[0], event, *ROUTINE], 40):
            state = fold.apply(state, Recorded(index=index, at=0, actor="a", event=item, environment=env))
        assert state.environments[env].revision == 41, event.kind
    assert {item.kind for item in (*REVISING, *ROUTINE)} | {
        "controller.started", "clock.differs", "witness.policy", "witness.refused", "installation.restored",
        "image.built", "disk.built", "disk.imported", "image.failed", "image.attested", "key.trusted",
        "trust.revoked", "verifier.trusted",
        "storage.cleaning", "storage.cleaned", "image.imported", "image.pushed",
    } == set(ev.KINDS), "a new kind of event is one or the other"  # fmt: skip


def test_by_ratio_a_share_is_that_of_the_instances_that_requests_go_to() -> None:
    old, new = release("v1", WEB, WORKER), release("v2", WEB, WORKER)
    of = {item.id: item for item in (old, new)}
    holdings = (
        Holding(release=old.id, process="web", serving=3), Holding(release=old.id, process="worker", serving=9),
        Holding(release=new.id, process="web", serving=1, warm=5),
    )  # fmt: skip
    assert ratio(Allocation(holdings=holdings), of) == {old.id: 7_500, new.id: 2_500}
    assert ratio(Allocation(holdings=holdings, weights={old.id: 10_000, new.id: 0}), of) == {}, "the weights say it"
    assert ratio(Allocation(holdings=holdings[:2]), of) == {}, "there is nobody to share with"
