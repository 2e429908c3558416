"""The life of an instance, step by step."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from stelae.core.lives import Life, begun, lived, seen_first
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.event import Event
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId
from stelae.domain.run import RunOutcome

A = InstanceId("web-1")
RELEASE = ReleaseId("r-1")
DONE = ev.ActionDone(number=1)


def act(verb: Verb, **more: Any) -> Action:
    return Action(verb=verb, number=1, instance=A, **more)


LAUNCH = act(Verb.LAUNCH, release=RELEASE, process="web")
TO, AWAY = Action(verb=Verb.ROUTE, table={A: 100}), Action(verb=Verb.ROUTE)


def life(*steps: tuple[Event, Action | None], run: bool = False) -> Life:
    """A life that begins at 100, with a step at each hundred from then on."""
    numbered, first = list(enumerate(steps, start=2)), begun(LAUNCH, 100, run=run)
    return reduce(lambda known, step: lived(known, step[1][0], step[1][1], step[0] * 100), numbered, first)


def told(found: Life) -> dict[str, object]:
    """What is known of a life besides its beginning."""
    names = [name for name in found.__slots__ if name not in ("id", "release", "process", "launched_at", "run")]
    return {name: getattr(found, name) for name in names if getattr(found, name) not in (None, "", False)}


def test_a_whole_life() -> None:
    exit_ = Exit(code=143, at=990, last_lines=("bye",))
    found = life(
        (DONE, LAUNCH), (ev.InstanceReady(instance=A), None), (DONE, TO), (DONE, AWAY),
        (ev.ActionIntended(action=act(Verb.STOP)), act(Verb.STOP)),
        (ev.ActionIntended(action=act(Verb.KILL)), act(Verb.KILL)),
        (ev.InstanceExited(instance=A, exit=exit_), None), (DONE, act(Verb.REMOVE)),
    )  # fmt: skip
    assert (found.id, found.release, found.process, found.launched_at, found.run) == (A, RELEASE, "web", 100, False)
    assert told(found) == {
        "started_at": 200, "first_ready_at": 300, "routed_at": 400, "drained_at": 500, "stopped_at": 600,
        "killed_at": 700, "ended_at": 800, "exit": Exit(code=143, at=990), "removed_at": 900,
    }  # fmt: skip
    assert found.over_at == 800


def test_one_that_a_cluster_launched_begins_when_it_is_seen() -> None:
    event = ev.InstanceSeen(instance=A, release=RELEASE, process="web", node="n-7")
    found = seen_first(event, 100)
    assert (found.id, found.release, found.process, found.launched_at) == (A, RELEASE, "web", 100)
    assert told(found) == {"started_at": 100, "node": "n-7"}


def test_ready_unready_and_back_in_the_traffic() -> None:
    ready, unready = ev.InstanceReady(instance=A), ev.InstanceUnready(instance=A)
    assert told(life((ready, None), (unready, None))) == {"first_ready_at": 200}
    assert told(life((ready, None), (unready, None), (ready, None))) == {"first_ready_at": 200, "ready": True}
    assert told(life((DONE, TO), (DONE, AWAY), (DONE, TO))) == {"routed_at": 200}
    assert life((DONE, TO)).over_at is None


@pytest.mark.parametrize(("done", "expected"), [
    (ev.ActionDone(number=1, error="no space"), {"failed": "no space"}),
    (ev.ActionDone(number=1, error="who knows", unsure=True), {"started_at": 200}),
])  # fmt: skip
def test_a_launch_that_failed_or_may_have(done: ev.ActionDone, expected: dict[str, object]) -> None:
    assert told(life((done, LAUNCH))) == expected


def test_what_failed_changed_nothing() -> None:
    failed = ev.ActionDone(number=1, error="not now")
    for verb in (Verb.STOP, Verb.KILL, Verb.REMOVE):
        assert told(life((failed, act(verb)))) == {}
    assert told(life((failed, TO))) == {}
    assert told(life((DONE, act(Verb.STOP)))) == {}
    assert told(life((DONE, None))) == {}


def test_the_first_end_counts() -> None:
    lost = ev.InstanceLost(instance=A)
    found = life((lost, None), (ev.InstanceExited(instance=A, exit=Exit(code=1, at=7)), None))
    assert told(found) == {"ended_at": 200, "exit": Exit(code=-1, at=200)}
    assert life((DONE, act(Verb.REMOVE))).over_at == 200


def test_a_run_ends_with_its_exit_or_without() -> None:
    ended = ev.RunEnded(run=A, outcome=RunOutcome.SUCCEEDED, exit=Exit(code=0, at=5, last_lines=("done",)))
    assert told(life((ended, None), run=True)) == {"ended_at": 200, "exit": Exit(code=0, at=5)}
    assert told(life((ev.RunEnded(run=A, outcome=RunOutcome.UNKNOWN), None), run=True)) == {"ended_at": 200}
    assert told(life((ev.EnvironmentStopped(), None))) == {}


def test_a_life_that_is_only_seen() -> None:
    found = seen_first(ev.InstanceSeen(instance=A, release=RELEASE, process="web", node="n1"), 100)
    assert (found.id, found.release, found.process, found.launched_at, found.started_at) == (
        A,
        RELEASE,
        "web",
        100,
        100,
    )
    for at, event in enumerate(
        (ev.InstanceReady(instance=A), ev.InstanceEnding(instance=A), ev.InstanceGone(instance=A)), start=2
    ):
        found = lived(found, event, None, at * 100)
    assert (found.first_ready_at, found.ready, found.stopped_at, found.removed_at) == (200, False, 300, 400)
    assert (found.over_at, found.exit) == (400, None)
    again = lived(found, ev.InstanceEnding(instance=A), None, 900)
    assert again.stopped_at == 300
