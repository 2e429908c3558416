"""Gates of steps, and people who hold, hurry and end a rollout: what counts against which deadline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import clocks, gates
from stelae.core.deadlines import deadline
from stelae.core.decide import decide
from stelae.domain import event as ev
from stelae.domain.observation import Observation
from stelae.domain.promotion import Approval
from stelae.domain.state import EnvironmentState, Outcome, Phase, Rollout
from stelae.domain.strategy import Gate
from stelae.domain.units import MINUTE, SECOND
from stelae.testing.world import World
from tests.unit.core.fixtures import ROLLOUT, deployed, environment, outcome, release, state
from tests.unit.core.test_canary import canary, share, steps

V1, V2 = release("v1"), release("v2")
KINDS = ["recreate", "rolling", "blue-green", "canary"]


def gated(kind: str, **gate: Any) -> World:
    """A world in which V1 is stable and each step of a deployment waits for *gate*."""
    given: dict[str, Any] = {"steps": steps(5, 50, **gate)} if kind == "canary" else {}
    return deployed(kind, gate=Gate(**gate), batch=50, **given)


def under_way(made: World) -> Rollout:
    assert made.env.rollout is not None
    return made.env.rollout


def advanced(made: World) -> list[int]:
    """The seconds since the last deployment at which a step was left, or the rollout ended well."""
    begun = 0
    found: list[int] = []
    for at, event in made.log:
        if isinstance(event, ev.DeploymentRequested):
            begun, found = at, []
        if isinstance(event, ev.RolloutAdvanced) or (
            isinstance(event, ev.RolloutEnded) and event.outcome is Outcome.SUCCEEDED
        ):
            found.append((at - begun) // SECOND)
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("recreate", [0, 13]),  # nothing runs in its first step: nobody waits there
        ("rolling", [13, 26, 39]),
        ("blue-green", [13, 23, 36]),
        ("canary", [13, 26, 39, 52]),
    ],
)
def test_a_soak_begins_when_a_step_is_held_not_when_it_is_launched(kind: str, expected: list[int]) -> None:
    made = gated(kind, soak=10 * SECOND)
    made.behave(V2, ready_after=3 * SECOND)
    made.request(V2)
    made.run()
    assert advanced(made) == expected


def test_a_soak_may_be_longer_than_the_machine_has_for_a_step() -> None:
    made = deployed("blue-green", gate=Gate(soak=30 * MINUTE))
    name = made.request(V2)
    made.run(seconds=7200)
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_a_manual_gate_says_where_the_release_can_be_looked_at() -> None:
    made = deployed("blue-green", gate=Gate(manual=True), preview="next.example.com")
    made.request(V2)
    made.run(seconds=60)
    assert under_way(made).asks == "whether step 1 may go on; look at it: next.example.com"


@pytest.mark.parametrize("kind", ["rolling", "blue-green", "canary"])
def test_a_manual_gate_asks_and_a_person_opens_this_step_only(kind: str) -> None:
    made = gated(kind, manual=True, soak=SECOND)
    name = made.request(V2)
    made.run(seconds=60)
    assert (under_way(made).step, under_way(made).asks) == (0, "whether step 1 may go on")
    made.record(ev.GateOpened(deployment=name, step=0))
    assert under_way(made).asks == ""
    made.run(seconds=60)
    if kind == "blue-green":  # all of the traffic has moved: only the worker and the soak were left
        assert outcome(made, name) is Outcome.SUCCEEDED
        return
    assert under_way(made).step == 1
    assert under_way(made).asks == "whether step 2 may go on"
    made.record(ev.GateOpened(deployment=name, step=0))
    made.run(seconds=60)
    assert under_way(made).step == 1, "that was another step's"
    made.record(ev.GateOpened(deployment=name, step=1))
    made.run(seconds=600)
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_where_all_of_the_traffic_has_moved_nobody_is_asked() -> None:
    made = gated("blue-green", manual=True)
    name = made.request(V2)
    made.run(seconds=5)
    made.record(ev.GateOpened(deployment=name, step=0))
    made.run(seconds=60)
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_a_person_is_waited_for_as_long_as_patience_says_and_the_machine_is_not_to_blame() -> None:
    made = deployed("blue-green", gate=Gate(manual=True), patience=2 * 60 * MINUTE)
    name = made.request(V2)
    made.run(seconds=7100)
    assert outcome(made, name) is None, "the machine has ten minutes for a step, a person has longer"
    made.run(seconds=200)
    done = made.env.deployments[name]
    assert (done.outcome, done.why) == (
        Outcome.REVERTED, "nobody came within 7200 s: whether step 1 may go on"
    )  # fmt: skip
    assert share(made, V1) == 100


def test_a_first_deployment_waits_for_nobody() -> None:
    made = World.of(environment("canary", gate=Gate(manual=True, soak=60 * SECOND)))
    name = made.request(V1)
    made.run(seconds=5)
    assert outcome(made, name) is Outcome.SUCCEEDED


# Pause and resume


@pytest.mark.parametrize("kind", KINDS)
def test_a_pause_makes_no_step_and_no_soak_goes_by(kind: str) -> None:
    made = gated(kind, soak=20 * SECOND)
    name = made.request(V2)
    made.run(seconds=15)
    before = under_way(made)
    made.record(ev.RolloutPaused(deployment=name))
    table = dict(made.table)
    made.run(seconds=3000)
    held = under_way(made)
    assert (held.step, held.paused_by, made.table) == (before.step, "tester", table)
    made.record(ev.RolloutResumed(deployment=name))
    assert under_way(made).held_at == (before.held_at or 0) + 3000 * SECOND
    made.run(seconds=4)
    assert under_way(made).step == before.step, "five seconds of the soak were left"
    made.run(seconds=2)
    assert made.env.rollout is None or under_way(made).step == before.step + 1
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_what_fails_while_it_is_paused_is_reverted() -> None:
    made = canary()
    made.behave(V2, exits_after=15 * SECOND)
    name = made.request(V2)
    made.run(seconds=5)
    made.record(ev.RolloutPaused(deployment=name))
    made.run(seconds=20)
    assert outcome(made, name) is Outcome.REVERTED


def test_a_pause_ends_with_patience() -> None:
    made = gated("rolling", soak=60 * SECOND)
    name = made.request(V2)
    made.run(seconds=5)
    made.record(ev.RolloutPaused(deployment=name))
    made.run(seconds=25 * 3600)
    done = made.env.deployments[name]
    assert (done.outcome, done.why) == (Outcome.REVERTED, "nobody came within 86400 s: paused by tester")


def test_a_scale_during_a_pause_is_carried_out() -> None:
    made = canary()
    name = made.request(V2)
    made.run(seconds=15)
    made.record(ev.RolloutPaused(deployment=name), ev.Scaled(process="web", count=8))
    made.run(seconds=100)
    assert len(made.table) == 10
    assert round(share(made, V2)) == 25


# Hurry


@pytest.mark.parametrize("kind", KINDS)
def test_hurry_skips_soaks_and_people_and_never_readiness(kind: str) -> None:
    made = gated(kind, soak=600 * SECOND, manual=kind != "recreate")
    made.behave(V2, ready_after=4 * SECOND)
    name = made.request(V2)
    made.run(seconds=1)
    made.record(ev.RolloutHurried(deployment=name))
    made.run(seconds=2)
    assert outcome(made, name) is None, "its instances are not ready yet"
    assert made.env.table == {} or share(made, V2) == 0
    made.run(seconds=30)
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_what_is_hurried_and_fails_is_reverted() -> None:
    made = gated("rolling", soak=600 * SECOND)
    made.behave(V2, ready_after=None)
    name = made.request(V2)
    made.record(ev.RolloutHurried(deployment=name))
    made.run()
    assert outcome(made, name) is Outcome.REVERTED


def test_hurry_ends_a_pause() -> None:
    made = gated("canary", soak=600 * SECOND)
    name = made.request(V2)
    made.run(seconds=5)
    made.record(ev.RolloutPaused(deployment=name), ev.RolloutHurried(deployment=name))
    assert under_way(made).paused_at is None
    made.run(seconds=30)
    assert outcome(made, name) is Outcome.SUCCEEDED


# Abort


def _waiting(made: World) -> None:
    config = made.env.config
    assert config is not None
    made.record(ev.EnvironmentApplied(environment=replace(config, approval=Approval(count=1))))


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("where", ["waiting", "forward", "asking", "unreachable", "incomplete"])
@pytest.mark.parametrize("kind", KINDS)
def test_after_an_abort_no_step_forward_happens_whatever_the_state(kind: str, where: str, *, paused: bool) -> None:
    made = gated(kind, manual=where == "asking" and kind != "recreate", soak=30 * SECOND)
    if where == "waiting":
        _waiting(made)
    name = made.request(V2)
    made.run(seconds=10)
    if paused:
        made.record(ev.RolloutPaused(deployment=name))
        made.run(seconds=1)
    made.reachable, made.complete = where != "unreachable", where != "incomplete"
    before = under_way(made)
    assert (before.phase is Phase.WAITING) == (where == "waiting")
    made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="aborted by ana"))
    launched = made.running(V2)
    since = len(made.log)
    made.run(seconds=5)
    made.reachable = made.complete = True
    made.run(seconds=60)
    assert outcome(made, name) is Outcome.CANCELLED
    assert not [event for _, event in made.log[since:] if isinstance(event, ev.RolloutAdvanced | ev.StepHeld)]
    assert made.running(V2) == 0
    assert launched == 0 or where != "waiting"
    assert (made.running(V1), share(made, V1)) == (5, 100)


def test_a_deployment_that_waits_holds_nothing_and_leaves_what_is_warm_or_down_as_it_is() -> None:
    made = deployed("blue-green", bake=600)
    made.request(V2)
    made.run(seconds=30)
    _waiting(made)
    made.request(release("v3"))
    made.run(seconds=30)
    assert under_way(made).phase is Phase.WAITING
    assert made.running(release("v3")) == 0
    assert set(made.env.warm) == {V1.id}, "a rollback is as quick as before"
    made.record(ev.RolloutReverting(deployment="d-3", ending=Outcome.CANCELLED, reason="no"))
    made.run(seconds=5)
    made.record(ev.EnvironmentStopped())
    made.run(seconds=60)
    name = made.request(release("v3"))
    made.run(seconds=60)
    assert (made.env.down, made.things) == (True, {}), "what was taken down waits to be let in first"
    made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="no"))
    made.run(seconds=60)
    assert (made.env.down, outcome(made, name)) == (True, Outcome.CANCELLED)


# Clocks


def _clocked(*events: tuple[str, int]) -> Rollout:
    """A rollout whose step began at 0 and was held at 10, after *events* at their times."""
    rollout = replace(ROLLOUT, step_at=0, held_at=10)
    for what, at in events:
        match what:
            case "lost":
                rollout = replace(rollout, unreachable_since=at)
            case "back":
                rollout = clocks.back(rollout, at)
            case "pause":
                rollout = replace(clocks.answered(rollout, at), paused_at=at, paused_by="ana")
            case "resume":
                rollout = clocks.resumed(rollout, at)
            case "ask":
                rollout = replace(rollout, asks="x", asks_since=at)
            case "answer":
                rollout = clocks.answered(rollout, at)
            case "held anew":
                rollout = replace(rollout, held_at=at)
    return rollout


@pytest.mark.parametrize(
    ("events", "stood"),
    [
        ([("pause", 20), ("resume", 30)], 10),
        ([("lost", 20), ("back", 30)], 10),
        ([("ask", 20), ("answer", 30)], 10),
        ([("pause", 20), ("lost", 25), ("back", 30), ("resume", 40)], 20),
        ([("pause", 20), ("lost", 25), ("resume", 30), ("back", 40)], 20),
        ([("lost", 20), ("pause", 25), ("resume", 30), ("back", 40)], 20),
        ([("lost", 20), ("pause", 25), ("back", 30), ("resume", 40)], 20),
        ([("ask", 20), ("pause", 30), ("resume", 40)], 20),
        ([("ask", 20), ("lost", 25), ("pause", 30), ("back", 35), ("resume", 40)], 20),
        ([("back", 20), ("answer", 25), ("resume", 30)], 0),
    ],
)
def test_a_clock_that_stands_still_for_two_reasons_is_put_off_once(events: list[tuple[str, int]], stood: int) -> None:
    rollout = _clocked(*events)
    assert (rollout.step_at, rollout.held_at) == (stood, 10 + stood)


@pytest.mark.parametrize(("stands", "goes_on"), [("pause", "resume"), ("ask", "answer")])
def test_a_step_that_is_held_anew_while_its_clock_stands_has_its_own_soak_and_no_more(
    stands: str, goes_on: str
) -> None:
    rollout = _clocked((stands, 20), ("held anew", 1000), (goes_on, 1010))
    assert rollout.held_at == 1010


def test_there_is_always_a_deadline() -> None:
    env = state(rollout=ROLLOUT)
    for phase in set(Phase) - {Phase.WAITING}:  # that of a rollout that waits: test_promotion
        for more in ({}, {"held_at": 100}, {"paused_at": 100, "paused_by": "ana"}, {"asks": "x", "asks_since": 100}):
            rollout: Any = replace(ROLLOUT, phase=phase, **more)
            assert 100 < deadline(env, rollout).at < 100 + 25 * 60 * MINUTE


def test_a_step_that_is_held_is_held_once() -> None:
    rollout = replace(ROLLOUT, strategy=replace(ROLLOUT.strategy, gate=Gate(soak=SECOND)))
    env: EnvironmentState = state(rollout=rollout)
    assert gates.is_to_hold(env, rollout)
    assert not gates.is_to_hold(env, replace(rollout, held_at=5))
    assert not gates.is_to_hold(env, replace(rollout, hurried=True))
    assert not gates.is_to_hold(env, ROLLOUT), "where nothing is waited for"
    assert decide(env, Observation(as_of=0, applied=0, complete=False), 0).events == ()
