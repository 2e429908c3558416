"""What a restore ends: nothing is done a second time, and nothing is left open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from stelae.core.evolve import evolve
from stelae.core.recovery import DOUBT, WHY, restored
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.event import Event
from stelae.domain.observation import Exit
from stelae.domain.promotion import Approval, Window
from stelae.domain.run import Run, RunOutcome
from stelae.domain.state import EnvironmentState, Outcome, Phase
from tests.unit.core.fixtures import ROLLOUT, V1, V2, one, state

NOW = 1_000


def told(env: EnvironmentState) -> list[Event]:
    return restored(env, NOW)[0]


def after(env: EnvironmentState, events: Iterable[Event]) -> EnvironmentState:
    for event in events:
        env = evolve(env, event, NOW, "ana")
    return env


def run(name: str, **more: Any) -> Run:
    fields = {"id": InstanceId(name), "release": V1.id, "actor": "ana", "requested_at": 1, "timeout": 60,
              "job": "migrate", "command": ("m",), **more}  # fmt: skip
    return Run(**fields)


def pending(*actions: Action) -> dict[str, Action]:
    return {str(action.number): action for action in actions}


def test_where_nothing_is_under_way_only_the_instances_are_gone() -> None:
    over = one(InstanceId("web-3"), exit=Exit(code=0, at=1))
    failed = one(InstanceId("web-4"), failed="no such program")
    env = state(one(InstanceId("web-1")), one(InstanceId("web-2")), over, failed)
    assert restored(env, NOW) == ([ev.InstanceLost(instance=InstanceId(name)) for name in ("web-1", "web-2")], 0)
    assert restored(state(), NOW) == ([], 0)


def test_no_act_is_done_again() -> None:
    launch = Action(number=8, verb=Verb.LAUNCH, instance=InstanceId("web-2"), release=V1.id, process="web")
    remove = Action(number=9, verb=Verb.REMOVE, instance=InstanceId("web-1"))
    stop = Action(number=10, verb=Verb.STOP, instance=InstanceId("web-3"))
    env = state(one(InstanceId("web-1")), one(InstanceId("web-2"), started=False), one(InstanceId("web-3")))
    env = replace(env, pending=pending(stop, remove, launch))
    assert told(env) == [
        ev.ActionDone(number=8, error=WHY), ev.ActionDone(number=9), ev.ActionDone(number=10, error=WHY),
        ev.InstanceLost(instance=InstanceId("web-3")),
    ]  # fmt: skip
    then = after(env, told(env))
    assert then.pending == {}
    assert InstanceId("web-1") not in then.instances
    assert all(instance.exit or instance.failed for instance in then.instances.values())
    assert told(then) == [], "it is the same to be restored twice"


@pytest.mark.parametrize("launched", [None, 5])
def test_a_run_that_is_not_over_is_ended_and_never_launched_again(launched: int | None) -> None:
    name = InstanceId("migrate-1")
    open_, done = run(name, launched_at=launched, started=False), run("done-1", outcome=RunOutcome.SUCCEEDED)
    env = replace(state(), runs={name: open_, done.id: done})
    if launched is not None:
        launch = Action(number=8, verb=Verb.LAUNCH, instance=name, release=V1.id, process="migrate")
        env = replace(env, pending=pending(launch))
    events, count = restored(env, NOW)
    assert count == 1
    ended = ev.RunEnded(run=name, outcome=RunOutcome.UNKNOWN, reason=DOUBT)
    acts = [ev.ActionDone(number=8, error=WHY, unsure=True)] if launched is not None else []
    assert events == [*acts, ended]
    then = after(env, events).runs[name]
    assert then.outcome is RunOutcome.UNKNOWN
    assert then.removed is (launched is None)
    assert restored(after(env, events), NOW) == ([], 0)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.FORWARD])
def test_a_rollout_that_was_let_in_goes_back(phase: Phase) -> None:
    env = replace(state(), rollout=replace(ROLLOUT, phase=phase))
    events, count = restored(env, NOW)
    assert count == 1
    assert events == [ev.RolloutReverting(deployment="d-2", ending=Outcome.CANCELLED, reason=WHY)]
    then = after(env, events).rollout
    assert then is not None
    assert then.phase is Phase.REVERTING


def test_one_that_goes_back_goes_on_doing_so() -> None:
    env = replace(state(), rollout=replace(ROLLOUT, phase=Phase.REVERTING, reason="it was bad"))
    assert restored(env, NOW) == ([], 0)


def test_one_that_waits_for_an_approval_waits_on_and_one_that_waits_for_a_time_is_ended() -> None:
    waiting = replace(ROLLOUT, phase=Phase.WAITING, needs=Approval(count=1))
    assert restored(replace(state(), rollout=waiting), NOW) == ([], 0)
    frozen = replace(ROLLOUT, phase=Phase.WAITING)
    env = replace(state(), rollout=frozen, freeze=Window(begins=0, ends=NOW * 10, reason="holidays"))
    assert restored(env, NOW) == (
        [ev.RolloutEnded(deployment="d-2", outcome=Outcome.CANCELLED, reason=WHY)], 1,
    )  # fmt: skip


def test_what_it_came_to_hold_does_not_matter() -> None:
    env = replace(state(one(InstanceId("web-1")), one(InstanceId("web-2"), release=V2.id)), rollout=ROLLOUT)
    assert [event.kind for event in told(env)] == ["instance.lost", "instance.lost", "rollout.reverting"]
