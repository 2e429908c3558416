"""What drifted is replaced: ready first, slowly where it goes on, and never where nothing drifted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import backoff
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift
from stelae.domain.job import Job, When
from stelae.domain.state import DeploymentKind, Outcome, Phase
from stelae.domain.units import MINUTE, SECOND
from stelae.testing.watched import WatchedWorld
from tests.unit.core.fixtures import V1, V2, environment, outcome, release

KINDS = ["rolling", "blue-green", "canary"]


def watched(kind: str = "rolling", *, answer: str = "replace", storm: int = 30, **options: Any) -> WatchedWorld:
    """A world in which V1 is stable."""
    made = WatchedWorld.of(environment(kind, **options))
    assert isinstance(made, WatchedWorld)
    made.with_policy(answer, storm)
    made.request(V1)
    made.run()
    assert made.env.stable == V1.id
    return made


def of(made: WatchedWorld, process: str = "web", name: object = V1.id) -> list[InstanceId]:
    return [one for one, thing in made.things.items() if (thing.process, thing.release) == (process, name)]


def runs(made: WatchedWorld, name: InstanceId) -> bool:
    return name in made.things and made.things[name].ended is None


def kinds(made: WatchedWorld, kind: type[ev.Event]) -> list[ev.Event]:
    return [event for _, event in made.log if isinstance(event, kind)]


def acts(made: WatchedWorld, verb: Verb, since: int = 0) -> list[InstanceId]:
    found = (event for _, event in made.log[since:] if isinstance(event, ev.ActionIntended))
    return [event.action.instance for event in found if event.action.verb is verb]


@pytest.mark.parametrize("process", ["web", "worker"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_replacement_is_ready_first_and_nothing_else_is_replaced(kind: str, process: str) -> None:
    made = watched(kind)
    made.behave(V1, ready_after=3 * SECOND)
    victim, others = of(made, process)[0], set(made.things)
    made.drift(victim)
    launched = len(made.launched)
    before = made.capacity()
    made.sweep()
    made.run(seconds=2.9)
    assert runs(made, victim)
    assert made.capacity() == before
    made.run(seconds=30)
    assert not runs(made, victim)
    assert len(made.launched) == launched + 1
    assert others - {victim} <= set(made.things)
    assert made.capacity() == before
    assert made.env.backoff[backoff.key(V1.id, process)].failures == 1


def test_where_it_is_only_reported_it_goes_on_until_the_policy_is_another() -> None:
    made = watched(answer="report")
    victim = of(made)[0]
    made.drift(victim)
    made.watch(60)
    assert runs(made, victim)
    assert made.env.instances[victim].drift[0].what == "its monitor has ended"
    assert made.env.backoff == {}
    made.with_policy("replace")
    made.watch(30)
    assert not runs(made, victim)


def test_a_difference_that_is_over_ends_where_it_is_only_reported() -> None:
    made = watched(answer="report")
    victim = of(made)[0]
    made.drift(victim)
    made.watch(10)
    made.things[victim].differences.clear()
    made.watch(10)
    assert made.env.instances[victim].drift == ()
    assert len(kinds(made, ev.DriftEnded)) == 1


def test_a_replacement_that_never_gets_ready_leaves_the_drifted_one_where_it_is() -> None:
    made = watched(worker=0, progress=10 * MINUTE)
    made.behave(V1, ready_after=None)
    victim = of(made)[0]
    made.drift(victim)
    made.watch(300)
    assert runs(made, victim)
    assert made.table[victim] > 0
    assert made.capacity()["web"] == 4


def test_one_that_no_inspection_can_look_at_is_not_replaced() -> None:
    made = watched()
    victim = of(made)[0]
    made.missed = (victim,)
    made.drift(victim)
    made.watch(60)
    assert runs(made, victim)


# Storms and back-off


def test_a_storm_stops_all_replacing_until_a_person_says_so() -> None:
    made = watched(worker=0)
    victims = of(made)[:2]
    for name in victims:
        made.drift(name)
    made.watch(60)
    assert all(runs(made, name) for name in victims)
    assert len(kinds(made, ev.DriftStorm)) == 1
    made.record(ev.ReplacementRequested(instances=tuple(victims), reason="seen to"))
    made.watch(30)
    assert not any(runs(made, name) for name in victims)
    assert made.capacity()["web"] == 4
    assert len(kinds(made, ev.DriftStorm)) == 1


def test_one_after_the_other_is_a_storm_too_and_then_the_rest_stays() -> None:
    made = watched(worker=0)
    first, second = of(made)[:2]
    made.drift(first)
    made.watch(20)
    assert not runs(made, first)
    made.drift(second)
    made.watch(120)
    assert runs(made, second)
    assert made.env.drift.storm is not None


def test_a_program_that_makes_itself_drift_is_a_storm_and_not_replaced_for_ever() -> None:
    made = watched(worker=0)
    made.behave(V1, drifts_after=2 * SECOND)
    made.drift(of(made)[0])
    made.watch(3600)
    assert len(kinds(made, ev.DriftStorm)) == 1
    assert len(acts(made, Verb.STOP)) <= 2


def test_what_drifts_again_and_again_is_replaced_more_and_more_slowly() -> None:
    made = watched(web=40, worker=0, storm=100)
    made.behave(V1, drifts_after=0)
    made.drift(of(made)[0])
    since = len(made.log)
    made.watch(9 * 60)
    stops = acts(made, Verb.STOP, since)
    assert 8 <= len(stops) <= 18  # 0, 0, 1, 2, 4, … 60 s
    pause = made.env.backoff[backoff.key(V1.id, "web")]
    assert pause.failures >= 8
    assert pause.why == "drifted: a process runs a file that is not of the image"


def test_no_more_at_a_time_than_a_rollout_would_add() -> None:
    made = watched(web=12, worker=0, storm=100, batch=25)
    made.behave(V1, ready_after=SECOND)
    victims = of(made)[:7]
    for name in victims:
        made.drift(name)
    made.sweep()
    made.run(seconds=0.5)
    assert made.running(V1) == 15
    made.run(seconds=60)
    assert not any(runs(made, name) for name in victims)
    assert made.running(V1) == 12


# People


def test_people_have_instances_replaced_that_did_not_drift() -> None:
    made = watched(answer="report")
    one, other = of(made)[0], of(made, "worker")[0]
    since = len(made.log)
    made.record(ev.ReplacementRequested(instances=(one, other), reason="new certificates"))
    made.watch(30)
    assert set(acts(made, Verb.STOP, since)) == {one, other}
    assert made.env.backoff == {}  # nobody did anything wrong
    assert made.capacity() == {"web": 4, "worker": 1}


# Where nothing may overlap, and where nothing is wanted


def test_with_recreate_it_ends_before_its_replacement_begins() -> None:
    made = watched("recreate", web=1, worker=0, storm=100)
    victim = of(made)[0]
    made.drift(victim)
    since = len(made.log)
    most = 0
    made.sweep()
    for _ in range(50):
        made.turn()
        most = max(most, sum(1 for thing in made.things.values() if thing.ended is None))
        made.now += 100_000
    assert most == 1
    assert acts(made, Verb.STOP, since) == [victim]
    assert len(acts(made, Verb.LAUNCH, since)) == 1
    assert made.capacity() == {"web": 1}


def test_what_is_scaled_to_nothing_is_not_replaced() -> None:
    made = watched(worker=0)
    made.drift(of(made)[0])
    made.record(ev.Scaled(process="web", count=0))
    since = len(made.log)
    made.watch(60)
    assert acts(made, Verb.LAUNCH, since) == []
    assert made.things == {}


def test_what_drifted_is_the_first_to_go_when_fewer_are_wanted() -> None:
    made = watched(worker=0, answer="report")
    victims = of(made)[1:3]
    for name in victims:
        made.drift(name)
    made.sweep()
    made.record(ev.Scaled(process="web", count=2))
    made.watch(60)
    assert not any(name in made.things for name in victims)


# Rollouts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("paused", [False, True])
def test_a_candidate_that_drifts_speaks_against_its_release(kind: str, paused: bool) -> None:
    made = watched(kind, worker=0)
    made.behave(V2, ready_after=SECOND)
    name = made.request(V2, replace(environment(kind).strategy, min_healthy=20 * SECOND))
    made.run(seconds=5)
    if paused:
        made.record(ev.RolloutPaused(deployment=name))
    candidate = of(made, name=V2.id)[0]
    made.drift(candidate, "a process runs a deleted file", Drift.PROCESS)
    made.watch(60)
    assert outcome(made, name) is Outcome.REVERTED
    deployment = made.env.deployments[name]
    assert deployment.why == f"instance {candidate} drifted: a process runs a deleted file"
    assert deployment.details == ("it was seen",)
    assert made.capacity()["web"] == 4


def test_where_it_is_only_reported_the_rollout_goes_on() -> None:
    made = watched(worker=0, answer="report")
    name = made.request(V2, replace(environment().strategy, min_healthy=5 * SECOND))
    made.run(seconds=1)
    made.drift(of(made, name=V2.id)[0])
    made.watch(60)
    assert outcome(made, name) is Outcome.SUCCEEDED


@pytest.mark.parametrize("kind", KINDS)
def test_the_old_release_drifts_in_a_rollout_and_is_replaced(kind: str) -> None:
    made = watched(kind, worker=0)
    made.behave(V1, ready_after=SECOND)
    name = made.request(V2, replace(environment(kind).strategy, min_healthy=30 * SECOND))
    made.run(seconds=5)
    victim = of(made)[0]
    made.drift(victim)
    made.watch(20)
    assert not runs(made, victim)
    made.watch(300)
    assert outcome(made, name) is Outcome.SUCCEEDED


@pytest.mark.parametrize("kind", [*KINDS, "recreate"])
def test_going_back_is_not_held_up_by_what_drifts(kind: str) -> None:
    made = watched(kind, worker=0)
    made.request(V2)
    made.run()
    made.behave(V1, ready_after=SECOND, drifts_after=0)
    name = made.request(V1, kind=DeploymentKind.ROLLBACK)
    made.watch(300)
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert made.env.drift.storm is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_revert_ends_though_the_old_release_drifts(kind: str) -> None:
    made = watched(kind, worker=0)
    made.behave(V1, ready_after=SECOND)
    made.behave(V2, ready_after=SECOND, exits_after=10 * SECOND)
    name = made.request(V2, replace(environment(kind).strategy, min_healthy=30 * SECOND))
    made.run(seconds=5)
    for one in of(made):
        made.drift(one)
    made.watch(120)
    assert outcome(made, name) is Outcome.REVERTED


def test_before_a_rollout_goes_forward_the_old_release_is_replaced_as_ever() -> None:
    web = V1.processes[0]
    migrate = Job(name="migrate", command=("migrate",), when=When.BEFORE_TRAFFIC)
    made = watched(worker=0)
    made.request(replace(release("v3", web), jobs=(migrate,)))
    made.behave(release("v3", web), job_after=None)
    made.run(seconds=1)
    assert made.env.rollout is not None
    assert made.env.rollout.phase is Phase.PREPARING
    victim = of(made)[0]
    made.drift(victim)
    made.watch(20)
    assert not runs(made, victim)


def test_one_that_is_kept_warm_is_replaced_and_ends_when_its_replacement_is_ready() -> None:
    made = watched("blue-green", worker=0, bake=600)
    made.request(V2)
    made.run(seconds=60)
    made.behave(V1, ready_after=5 * SECOND)
    victim = of(made)[0]
    made.drift(victim)
    made.sweep()
    made.run(seconds=4.5)
    assert runs(made, victim)
    assert len(of(made)) == 5
    made.run(seconds=30)
    assert not runs(made, victim)
    assert made.running(V1) == 4


def test_nothing_is_replaced_in_an_environment_that_is_down() -> None:
    made = watched(worker=0)
    made.drift(of(made)[0])
    made.sweep()
    made.record(ev.EnvironmentStopped())
    since = len(made.log)
    made.watch(60)
    assert acts(made, Verb.LAUNCH, since) == []
