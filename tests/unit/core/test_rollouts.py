"""Rollouts from beginning to end in a world under a virtual clock; the world checks law 6 at every act."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.observation import Exit
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.units import MILLISECOND, MINUTE, SECOND
from stelae.testing.world import World
from tests.unit.core.fixtures import WEB, deployed, outcome, release, world


def _launches(made: World) -> int:
    acts = [event.action for _, event in made.log if isinstance(event, ev.ActionIntended)]
    return sum(1 for action in acts if action.verb is Verb.LAUNCH)


KINDS = ["recreate", "rolling", "blue-green", "canary"]
V1, V2, V3 = release("v1"), release("v2"), release("v3")


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_deployment_ends_with_all_instances_in_traffic(kind: str) -> None:
    made = world(kind)
    name = made.request(V1)
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert made.running(V1) == 5
    assert len(made.table) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_release_replaces_the_first_wholly(kind: str) -> None:
    made = deployed(kind)
    name = made.request(V2)
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert (made.running(V1), made.running(V2)) == (0, 5)
    assert set(made.table) == {i for i, t in made.things.items() if t.release == V2.id and t.process == "web"}
    assert made.env.stables == (V1.id, V2.id)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"ready_after": None}, "was not ready within 30 s: it did not answer"),
        ({"ready_after": None, "exits_after": 10 * MILLISECOND}, "exited with status 1 before it was ready"),
    ],
)
def test_a_bad_release_is_reverted_with_its_reason(kind: str, how: dict[str, int | None], reason: str) -> None:
    made = deployed(kind)
    made.behave(V2, **how)
    name = made.request(V2)
    made.run()
    assert outcome(made, name) is Outcome.REVERTED
    assert reason in made.env.deployments[name].why
    assert (made.running(V1), made.running(V2)) == (5, 0)
    assert made.env.stable == V1.id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["exits_after", "unready_after"])
def test_min_healthy_catches_what_breaks_after_it_was_ready(kind: str, fault: str) -> None:
    made = deployed(kind, min_healthy=2 * SECOND)
    made.behave(V2, **{fault: SECOND})
    name = made.request(V2)
    made.run()
    assert outcome(made, name) is Outcome.REVERTED
    assert "ready" in made.env.deployments[name].why
    assert made.running(V1) == 5


def test_the_last_lines_of_an_exit_are_kept() -> None:
    made = deployed()
    made.behave(V2, ready_after=None, exits_after=0)
    name = made.request(V2)
    made.run()
    assert made.env.deployments[name].details == ("it broke",)


def test_the_last_lines_of_a_candidate_that_hangs_are_kept() -> None:
    made = deployed()
    made.behave(V2, ready_after=None)
    name = made.request(V2)
    made.run()
    assert made.env.deployments[name].details == ("it said something",)


def test_a_first_deployment_that_fails_leaves_nothing() -> None:
    made = world()
    made.behave(V1, ready_after=None, exits_after=0)
    name = made.request(V1)
    made.run()
    assert outcome(made, name) is Outcome.FAILED
    assert made.things == {}
    assert made.env.stable is None


@pytest.mark.parametrize("kind", ["rolling", "blue-green", "canary"])
def test_bake_keeps_the_old_release_warm_and_then_ends_it(kind: str) -> None:
    made = deployed(kind, bake=600)
    made.request(V2)
    made.run(seconds=60)
    assert made.running(V1) == 4  # the worker is stopped, what has a port stays
    assert all(made.things[name].release == V2.id for name in made.table)
    made.run(seconds=700)
    assert made.running(V1) == 0


def test_a_rollback_to_a_warm_release_is_one_change_of_weights() -> None:
    made = deployed("blue-green", bake=600, worker=0)
    made.request(V2)
    made.run(seconds=60)
    before = len(made.log)
    name = made.request(V1, kind=DeploymentKind.ROLLBACK)
    made.run(seconds=1)
    assert outcome(made, name) is Outcome.SUCCEEDED
    verbs = [event.action.verb for _, event in made.log[before:] if isinstance(event, ev.ActionIntended)]
    assert verbs == [Verb.ROUTE]


def test_after_a_rollback_the_release_that_was_left_is_no_target() -> None:
    made = deployed()
    made.request(V2)
    made.run()
    made.request(V1, kind=DeploymentKind.ROLLBACK)
    made.run()
    assert made.env.stables == (V1.id,)
    assert made.env.stable == V1.id


@pytest.mark.parametrize("kind", KINDS)
def test_an_abort_goes_back_and_is_cancelled(kind: str) -> None:
    made = deployed(kind)
    made.behave(V2, ready_after=10 * SECOND)
    name = made.request(V2)
    made.run(seconds=5)
    made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="aborted by ana"))
    made.run()
    assert outcome(made, name) is Outcome.CANCELLED
    assert (made.running(V1), made.running(V2)) == (5, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_superseding_release_starts_from_what_is_there(kind: str) -> None:
    made = deployed(kind, batch=50)
    made.behave(V2, ready_after=100 * MILLISECOND)
    made.behave(V3, ready_after=SECOND)
    made.request(V2)
    made.run(seconds=0.15)
    name = made.request(V3)
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert (made.running(V1), made.running(V2), made.running(V3)) == (0, 0, 5)


def test_a_scale_in_the_middle_of_a_rollout_is_part_of_it() -> None:
    made = deployed("rolling", batch=25)
    made.behave(V2, ready_after=SECOND)
    name = made.request(V2)
    made.run(seconds=1.5)
    made.record(ev.Scaled(process="web", count=8))
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert (made.running(V1), made.running(V2)) == (0, 9)


def test_scaling_up_and_down_keeps_the_release() -> None:
    made = deployed()
    made.record(ev.Scaled(process="web", count=6))
    made.run()
    assert len(made.table) == 6
    made.record(ev.Scaled(process="web", count=1))
    made.run()
    assert (len(made.table), made.running(V1)) == (1, 2)


def test_an_instance_that_dies_is_replaced_and_a_crash_loop_backs_off() -> None:
    made = deployed(worker=0)
    victim = next(iter(made.things.values()))
    made.behave(V1, ready_after=None, exits_after=10 * MILLISECOND)
    victim.behaviour = made.behaviours[V1.id]
    launches = _launches(made)
    made.run(seconds=300)
    assert 5 <= _launches(made) - launches <= 15  # 0, 1, 2, 4, … 60 s apart, not a storm
    assert len(made.table) == 3


def test_after_a_power_off_the_stable_release_serves_again() -> None:
    made = deployed()
    made.power_off()
    made.run(seconds=30)
    assert len(made.table) == 4
    assert made.running(V1) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_off_in_the_middle_of_a_rollout_ends_it(kind: str) -> None:
    made = deployed(kind)
    made.behave(V2, ready_after=5 * SECOND)
    name = made.request(V2)
    made.run(seconds=2)
    made.power_off()
    made.run()
    assert outcome(made, name) in (Outcome.REVERTED, Outcome.SUCCEEDED)
    assert len(made.table) == 4


def test_long_connections_are_waited_for_up_to_the_drain_time() -> None:
    made = deployed()
    for thing in made.things.values():
        thing.behaviour = made.behaviours.setdefault(V1.id, thing.behaviour)
    for thing in made.things.values():
        object.__setattr__(thing, "behaviour", type(thing.behaviour)(drains=10 * MINUTE))
    name = made.request(V2)
    made.run(seconds=5)
    assert outcome(made, name) is Outcome.SUCCEEDED  # success does not wait for other people's downloads
    assert made.running(V1) >= 4
    made.run(seconds=30)
    assert made.running(V1) == 0


def test_what_ignores_sigterm_is_killed_after_its_time() -> None:
    made = deployed()
    for thing in made.things.values():
        thing.behaviour = type(thing.behaviour)(ignores_term=True)
    made.request(V2)
    made.run()
    killed = [
        event for _, event in made.log if isinstance(event, ev.ActionIntended) and event.action.verb is Verb.KILL
    ]
    assert len(killed) == 5
    assert made.running(V1) == 0


def test_unknown_moves_nothing_and_an_unreachable_platform_has_a_deadline() -> None:
    made = deployed()
    name = made.request(V2)
    made.reachable = False
    made.run(seconds=200)
    assert outcome(made, name) is None
    assert made.running(V2) == 0
    made.run(seconds=200)
    assert outcome(made, name) is Outcome.FAILED
    made.reachable = True
    made.run()
    assert (len(made.table), made.running(V1), made.running(V2)) == (4, 5, 0)


def test_an_incomplete_observation_retires_and_advances_nothing() -> None:
    made = deployed()
    made.request(V2)
    made.complete = False
    before = len([1 for _, event in made.log if isinstance(event, ev.ActionIntended)])
    made.run(seconds=20)
    assert len([1 for _, event in made.log if isinstance(event, ev.ActionIntended)]) == before


def test_a_launch_that_fails_reverts() -> None:
    made = deployed()
    name = made.request(V2)
    made.next_fails = Verb.LAUNCH
    made.run()
    assert outcome(made, name) is Outcome.REVERTED
    assert "could not be launched: made to fail" in made.env.deployments[name].why


def test_launches_that_always_fail_back_off_and_are_tried_again() -> None:
    made = deployed(worker=0)
    next(iter(made.things.values())).ended = Exit(code=137, at=made.now)
    made.always_fails = Verb.LAUNCH
    before = _launches(made)
    made.run(seconds=300)
    assert 5 <= _launches(made) - before <= 15  # 0, 1, 2, 4, … 60 s apart, not a storm
    made.always_fails = None
    made.run(seconds=120)
    assert len(made.table) == 4


def test_down_ends_everything_and_start_brings_it_back() -> None:
    made = deployed()
    made.record(ev.EnvironmentStopped())
    made.run()
    assert (made.things, made.table, made.env.instances) == ({}, {}, {})
    made.record(ev.EnvironmentStarted())
    made.run()
    assert len(made.table) == 4


def test_a_process_that_the_new_image_does_not_have_ends() -> None:
    made = deployed()
    name = made.request(release("v2", WEB))
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert made.running(V1) == 0
    assert made.running(release("v2", WEB)) == 4


def test_no_instance_id_is_used_twice() -> None:
    made = deployed()
    for name in ("v2", "v1", "v2", "v1"):
        made.request(release(name))
        made.run()
    launched = [
        event.action.instance
        for _, event in made.log
        if isinstance(event, ev.ActionIntended) and event.action.verb is Verb.LAUNCH
    ]
    assert len(launched) == len(set(launched))


def test_an_instance_that_hangs_is_replaced_before_it_is_ended() -> None:
    made = deployed(worker=0)
    victim = next(iter(made.things.values()))
    victim.behaviour = type(victim.behaviour)(ready_after=0, unready_after=0)
    made.run(seconds=60)
    assert victim.ended is not None
    assert len(made.table) == 4
    assert made.running(V1) == 4


def test_a_supersession_keeps_the_capacity_that_two_releases_share() -> None:
    made = deployed("rolling", batch=50, worker=0)
    made.behave(V2, ready_after=100 * MILLISECOND)
    made.behave(V1, ready_after=10 * SECOND)
    made.request(V2)
    made.run(seconds=0.15)
    assert (len(made.table), made.running(V1)) == (4, 2)  # two of each serve
    made.request(V3)
    made.run(seconds=0.01)
    assert len(made.table) == 4  # the superseded ones go on until others are ready
    made.run()
    assert made.running(V3) == 4


def test_a_revert_keeps_a_worker_until_the_stable_one_works_again() -> None:
    made = deployed("rolling", web=1)
    made.behave(V1, ready_after=10 * SECOND)
    assert made.env.config is not None
    name = made.request(V2, replace(made.env.config.strategy, min_healthy=5 * SECOND))
    made.run(seconds=6)
    stable = next(thing for thing in made.things.values() if thing.release == V1.id and thing.process == "worker")
    assert made.running(V2) == 2
    stable.ended = Exit(code=1, at=made.now)
    made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="aborted"))
    made.run(seconds=1)
    assert made.capacity()["worker"] == 1
    made.run()
    assert (made.running(V1), made.running(V2)) == (2, 0)


def test_what_cannot_be_asked_to_end_is_asked_again_and_then_killed() -> None:
    made = deployed(worker=0)
    made.always_fails = Verb.STOP
    made.request(V2)
    made.run(seconds=300)
    acts = [event.action for _, event in made.log if isinstance(event, ev.ActionIntended)]
    victim = next(action.instance for action in acts if action.verb is Verb.STOP)
    verbs = [action.verb for action in acts if action.instance == victim and action.verb is not Verb.LAUNCH]
    assert verbs == [*[Verb.STOP] * 4, Verb.KILL, Verb.REMOVE]
    assert (made.running(V1), made.running(V2)) == (0, 4)


def test_what_was_perhaps_asked_to_end_and_works_is_kept_until_others_work() -> None:
    made = deployed("blue-green", web=1)
    made.behave(V2, ready_after=50 * MILLISECOND)
    made.request(V2)
    made.run(seconds=0.06)
    made.always_fails = Verb.STOP
    made.run(seconds=2)
    new = next(thing for thing in made.things.values() if thing.release == V2.id and thing.process == "worker")
    made.behave(V2, ready_after=20 * SECOND)
    new.ended = Exit(code=1, at=made.now)
    made.run(seconds=15)
    assert made.capacity_of(V1.id, "worker") == 1
    made.run(seconds=300)
    assert made.running(V1) == 0
