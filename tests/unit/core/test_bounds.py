"""What goes wrong again and again: the record grows slowly, the rest goes on, and every rollout ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import converge, failures
from stelae.core.decide import decide
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.observation import Exit, Phase
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.units import MILLISECOND, MINUTE, SECOND
from stelae.ledger.codec import MAX_LEAF
from stelae.ledger.plain import to_canonical
from stelae.testing.world import World
from tests.unit.core.fixtures import deployed, outcome, release, world

V1, V2, V3 = release("v1"), release("v2"), release("v3")
HOUR = 3600


def acts(made: World, verb: Verb, since: int = 0) -> list[Action]:
    found = [event.action for _, event in made.log[since:] if isinstance(event, ev.ActionIntended)]
    return [action for action in found if action.verb is verb]


def count(made: World, kind: type[ev.Event], since: int = 0) -> int:
    return sum(1 for _, event in made.log[since:] if isinstance(event, kind))


def flap(made: World, seconds: int, victims: int) -> None:
    """For *seconds* instances are unready for 3 s and ready for 1 s, by turns."""
    for _ in range(seconds // 4):
        for thing in list(made.things.values())[:victims]:
            thing.behaviour = replace(thing.behaviour, ready_after=0, unready_after=0)
        made.run(seconds=3)
        for thing in made.things.values():
            thing.behaviour = replace(thing.behaviour, unready_after=None)
        made.run(seconds=1)


def test_an_instance_that_flaps_for_an_hour_does_not_flood_the_record() -> None:
    made = deployed(worker=0)
    before = len(made.log)
    flap(made, HOUR, victims=1)
    assert len(made.log) - before < HOUR, "less than one event a second, where it flaps every four"
    made.run(seconds=120)
    assert len(made.table) == 4, "it is taken back when it stays ready"


def test_an_instance_that_was_unready_once_is_taken_back_at_once() -> None:
    made = deployed(worker=0)
    flap(made, 4, victims=1)
    assert len(made.table) == 4


@pytest.mark.parametrize("verb", [Verb.ROUTE, Verb.REMOVE])
def test_an_act_that_always_fails_is_tried_more_and_more_slowly(verb: Verb) -> None:
    made = deployed(worker=0)
    made.always_fails = verb
    next(iter(made.things.values())).ended = Exit(code=1, at=made.now)
    before = len(made.log)
    made.run(seconds=HOUR)
    assert 5 <= len(acts(made, verb, before)) <= 90
    made.always_fails = None
    made.run(seconds=120)
    assert len(made.table) == 4
    assert len(made.things) == 4
    assert not [key for key in made.env.backoff if not key.startswith("r-")], "what works has no past"


def test_another_traffic_table_does_not_wait_for_one_that_failed() -> None:
    made = deployed(worker=0)
    made.always_fails = Verb.ROUTE
    made.record(ev.Scaled(process="web", count=3))
    made.run(seconds=300)
    made.always_fails = None
    made.record(ev.Scaled(process="web", count=2))
    before = made.now
    made.run(seconds=1)
    assert (len(made.table), made.now - before) == (2, 0) or len(made.table) == 2


def test_a_traffic_table_that_does_not_last_is_set_again_ever_more_slowly() -> None:
    made = deployed(worker=0)
    before = len(made.log)
    for _ in range(HOUR):
        made.table = dict(list(made.table.items())[:3])  # somebody takes a server out, every second
        made.run(seconds=1)
        made.now += SECOND
    assert 5 <= len(acts(made, Verb.ROUTE, before)) <= 130


def test_what_survives_every_kill_is_killed_ever_more_slowly() -> None:
    made = deployed(worker=0)
    victim, thing = next(iter(made.things.items()))
    made.record(ev.EnvironmentStopped())
    made.run(seconds=60)
    made.record(ev.EnvironmentStarted())
    made.run(seconds=60)
    victim, thing = next(iter(made.things.items()))
    env = made.env
    instance = replace(env.instances[victim], stopped_at=made.now, drained_at=made.now)
    kills = 0
    start = made.now
    while made.now < start + HOUR * SECOND:
        instances = {**env.instances, victim: instance}
        made.env = replace(env, instances=instances, table={}, backoff={})
        made.table = {}
        seen = made.observe()
        assert seen is not None
        found = converge.actions(made.env.allocation, made.env, seen)
        if any(action.verb is Verb.KILL for action in found):
            kills += 1
            instance = replace(instance, killed_at=made.now)
        made.now += SECOND
    assert 3 <= kills <= 20
    assert thing.ended is None


def test_instances_that_never_get_ready_again_are_replaced_ever_more_slowly() -> None:
    made = deployed(worker=0)
    made.power_off()
    made.behave(V1, ready_after=None)  # its database is gone, for example
    before = len(made.log)
    made.run(seconds=HOUR)
    assert len(acts(made, Verb.LAUNCH, before)) <= 4 * 65
    assert count(made, ev.AllocationSet, before) <= 4 * 65


def test_after_a_power_off_all_instances_start_at_once_however_many() -> None:
    made = deployed(web=12, worker=2)
    made.power_off()
    before = len(made.log)
    made.run(seconds=5)
    assert len(made.table) == 12
    assert len(acts(made, Verb.LAUNCH, before)) == 14


@pytest.mark.parametrize("kind", ["recreate", "rolling", "blue-green", "canary"])
def test_a_rollout_ends_though_what_is_there_is_never_wholly_known(kind: str) -> None:
    made = deployed(kind)
    made.complete = False
    name = made.request(V2)
    before = len(made.log)
    made.run(seconds=2 * HOUR)
    assert outcome(made, name) is Outcome.FAILED
    assert "made no progress for 600 s" in made.env.deployments[name].why
    assert not [1 for _, event in made.log[before:] if isinstance(event, ev.ActionIntended)]
    made.complete = True
    made.run(seconds=60)
    assert (len(made.table), made.running(V1), made.running(V2)) == (4, 5, 0)


def test_with_recreate_a_rollback_in_the_middle_lets_nothing_overlap() -> None:
    made = deployed("recreate", worker=0)
    made.behave(V2, ready_after=20 * SECOND, ignores_term=True)
    made.request(V2)
    made.run(seconds=5)
    assert made.running(V2) == 4
    name = made.request(V1, kind=DeploymentKind.ROLLBACK)
    for _ in range(600):
        made.run(seconds=0.1)
        assert not (made.running(V1) and made.running(V2)), "both ran at the same time"
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert made.running(V1) == 4


def test_with_recreate_a_first_release_that_is_replaced_ends_before_the_next_starts() -> None:
    made = world("recreate", worker=0)
    made.behave(V1, ready_after=None, ignores_term=True)
    made.request(V1)
    made.run(seconds=5)
    made.request(V2)
    for _ in range(300):
        made.run(seconds=0.1)
        assert not (made.running(V1) and made.running(V2)), "both ran at the same time"
    assert made.running(V2) == 4


def test_a_rollback_to_a_warm_release_replaces_what_hangs_of_it() -> None:
    made = deployed("blue-green", bake=600, worker=0)
    made.request(V2)
    made.run(seconds=60)
    victim = next(thing for thing in made.things.values() if thing.release == V1.id)
    victim.behaviour = replace(victim.behaviour, ready_after=0, unready_after=0)
    made.run(seconds=5)
    name = made.request(V1, kind=DeploymentKind.ROLLBACK)
    made.run(seconds=120)
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert made.running(V1) == 4
    assert victim.ended is not None


def test_an_exit_counts_though_the_machines_clock_went_back() -> None:
    made = deployed(worker=0)
    made.behave(V2, ready_after=None)
    name = made.request(V2)
    made.run(seconds=1)
    thing = next(thing for thing in made.things.values() if thing.release == V2.id)
    thing.ended = Exit(code=3, at=made.now - HOUR * SECOND)
    made.run(seconds=1)
    assert outcome(made, name) is Outcome.REVERTED
    assert "exited with status 3" in made.env.deployments[name].why


def test_an_instance_that_was_asked_to_end_and_stops_answering_is_no_news() -> None:
    made = deployed(worker=0)
    for thing in made.things.values():
        thing.behaviour = replace(thing.behaviour, ignores_term=True, unready_after=0)
    for thing in made.things.values():
        thing.behaviour = replace(thing.behaviour, unready_after=None)
    made.request(V2)
    made.run(seconds=2)
    stopping = [thing for thing in made.things.values() if thing.stopping and thing.ended is None]
    assert stopping
    before = len(made.log)
    for thing in stopping:
        thing.behaviour = replace(thing.behaviour, unready_after=0)
    made.run(seconds=2)
    assert count(made, ev.InstanceUnready, before) == 0


def test_what_an_instance_wrote_always_fits_into_the_record() -> None:
    made = deployed(worker=0)
    made.behave(V2, ready_after=None)
    made.request(V2)
    made.run(seconds=1)
    name = next(name for name, thing in made.things.items() if thing.release == V2.id)
    lines = ("\x01" * 10_000,) * 500
    made.things[name].ended = Exit(code=1, at=made.now, last_lines=lines)
    made.run(seconds=60)
    written = [to_canonical(event) for _, event in made.log]
    assert max(map(len, written)) < MAX_LEAF - 2000
    seen = made.observe()
    assert seen is not None
    told = {key: replace(view, phase=Phase.UNREADY, problem="\x01" * 100_000) for key, view in seen.instances.items()}
    events = decide(made.env, replace(seen, instances=told), made.now).events
    assert events
    assert max(len(to_canonical(event)) for event in events) < MAX_LEAF - 2000


def test_an_outcome_is_final() -> None:
    made = deployed()
    made.record(ev.RolloutEnded(deployment="d-1", outcome=Outcome.SUPERSEDED, reason="too late"))
    assert outcome(made, "d-1") is Outcome.SUCCEEDED


def test_lines_are_cut_at_their_beginnings_and_the_last_are_kept() -> None:
    lines = tuple(f"{number} " + "x" * 1000 for number in range(50))
    kept = failures.shortened(lines)
    assert (len(kept), len(kept[0])) == (failures.MOST_LINES, failures.LONGEST_TEXT)
    assert kept[-1].startswith("49 ")


def test_a_short_time_to_start_does_not_make_a_storm() -> None:
    made = deployed(worker=0)
    made.behave(V1, ready_after=None, exits_after=10 * MILLISECOND)
    made.power_off()
    before = len(made.log)
    made.run(seconds=HOUR)
    assert len(made.log) - before < 4 * 12 * (HOUR * SECOND // MINUTE + 10)
