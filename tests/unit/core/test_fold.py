"""What each event makes of a state: all of it, compared with what the state was before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import backoff, owned
from stelae.core.evolve import evolve, evolve_all
from stelae.core.fold import apply, apply_all
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.artifact import Disk
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import Event, Recorded
from stelae.domain.image import Image, Source
from stelae.domain.observation import Exit
from stelae.domain.promotion import Verification, Verifying
from stelae.domain.release import short_release
from stelae.domain.state import (
    Backoff,
    BuiltDisk,
    BuiltImage,
    Cleaning,
    Deployment,
    DeploymentKind,
    EnvironmentState,
    InstallationState,
    Instance,
    Outcome,
    Phase,
    Rollout,
)
from stelae.domain.units import MINUTE, SECOND
from tests.unit.core.fixtures import ROLLOUT, SHOP, V1, V2, WEB, environment, one, release, state

V3 = release("v3")
AT = 1000 * SECOND
A, B, C = InstanceId("web-a"), InstanceId("web-b"), InstanceId("web-c")


ASKED = Deployment(id="d-2", kind=DeploymentKind.DEPLOY, release=V2.id, actor="ana", requested_at=100, previous=V1.id)
MOVING = state(rollout=ROLLOUT, deployments={"d-2": ASKED})


def after(env: EnvironmentState, *events: Event, at: int = AT) -> EnvironmentState:
    found = evolve_all(env, events, at, "ben")
    step = env
    for event in events:
        step = evolve(step, event, at, "ben")
    assert step == found, "many at once are the same as one by one"
    return found


# What people ask for


def test_an_environment_that_is_applied_for_the_first_time_has_the_counts_of_the_file() -> None:
    config = environment(web=4)
    assert after(EnvironmentState(id=SHOP), ev.EnvironmentApplied(environment=config)) == EnvironmentState(
        id=SHOP, config=config, wanted={"web": 4, "worker": 1}
    )


def test_a_count_that_the_file_did_not_change_keeps_what_scaling_made_of_it() -> None:
    before = state(config=environment(web=4, worker=1), wanted={"web": 9, "worker": 7})
    config = replace(environment(), processes={"web": 4, "worker": 2, "cron": 1})
    assert after(before, ev.EnvironmentApplied(environment=config)) == replace(
        before, config=config, wanted={"web": 9, "worker": 2, "cron": 1}
    )
    odd = replace(before, wanted={"worker": 7})
    assert after(odd, ev.EnvironmentApplied(environment=environment())).wanted == {"web": 4, "worker": 7}


def test_down_and_up_again() -> None:
    before = state(warm={V2.id: 5})
    down = after(before, ev.EnvironmentStopped())
    assert down == replace(before, down=True, warm={})
    assert after(down, ev.EnvironmentStarted()) == replace(before, warm={})


def test_scaling_changes_one_count() -> None:
    assert after(state(), ev.Scaled(process="web", count=5)) == state(wanted={"web": 5, "worker": 1})


def test_a_deployment_that_is_asked_for() -> None:
    strategy = environment("blue-green").strategy
    keep = {backoff.key(V1.id, "web"): Backoff(failures=3, until=9), "route/x": Backoff(failures=1, until=9)}
    gone = {
        backoff.key(V2.id, "web"): Backoff(failures=1, until=9),
        backoff.key(V3.id, "web"): Backoff(failures=1, until=9),
    }
    before = state(down=True, warm={V2.id: 5}, backoff={**keep, **gone}, releases={V1.id: V1, V2.id: V2, V3.id: V3})
    event = ev.DeploymentRequested(
        deployment="d-9", deployment_kind=DeploymentKind.ROLLBACK, release=V2, strategy=strategy, reason="why not"
    )
    assert after(before, event) == replace(
        before, down=False, warm={}, backoff=keep,
        rollout=Rollout(
            deployment="d-9", kind=DeploymentKind.ROLLBACK, candidate=V2.id, stable=V1.id, strategy=strategy,
            actor="ben", started_at=AT, step_at=AT,
        ),
        deployments={"d-9": Deployment(
            id="d-9", kind=DeploymentKind.ROLLBACK, release=V2.id, actor="ben", requested_at=AT, previous=V1.id,
            reason="why not",
        )},
    )  # fmt: skip
    for found in (evolve(before, event, AT), evolve_all(before, [event], AT)):
        assert found.rollout is not None
        assert found.rollout.actor == ""


def test_a_candidate_that_is_the_stable_release_begins_without_a_past_too() -> None:
    before = state(backoff={backoff.key(V1.id, "web"): Backoff(failures=3, until=9)})
    event = ev.DeploymentRequested(
        deployment="d-9", deployment_kind=DeploymentKind.DEPLOY, release=V1, strategy=environment().strategy
    )
    assert after(before, event).backoff == {}


# A rollout


def test_a_step_of_a_rollout() -> None:
    assert after(MOVING, ev.RolloutAdvanced(deployment="d-2", step=3)) == replace(
        MOVING, rollout=replace(ROLLOUT, step=3, step_at=AT)
    )


def test_a_rollout_that_goes_back() -> None:
    event = ev.RolloutReverting(deployment="d-2", ending=Outcome.CANCELLED, reason="no", details=("a", "b"))
    back = replace(
        ROLLOUT, phase=Phase.REVERTING, ending=Outcome.CANCELLED, reason="no", details=("a", "b"), step_at=AT
    )
    assert after(MOVING, event) == replace(MOVING, rollout=back)


@pytest.mark.parametrize("outcome", [Outcome.REVERTED, Outcome.FAILED, Outcome.SUPERSEDED])
def test_a_rollout_that_ends_without_success(outcome: Outcome) -> None:
    event = ev.RolloutEnded(deployment="d-2", outcome=outcome, reason="no", details=("x",))
    done = replace(ASKED, outcome=outcome, ended_at=AT, why="no", details=("x",))
    assert after(MOVING, event) == replace(MOVING, rollout=None, deployments={"d-2": done})


def test_a_rollout_that_succeeds() -> None:
    found = after(MOVING, ev.RolloutEnded(deployment="d-2", outcome=Outcome.SUCCEEDED))
    assert found == replace(
        MOVING, rollout=None, stable=V2.id, stable_since=AT, stables=(V1.id, V2.id), verified=frozenset({V2.image}),
        deployments={"d-2": replace(ASKED, outcome=Outcome.SUCCEEDED, ended_at=AT)},
        verifying=Verifying(release=V2.id, deployment="d-2", since=AT),
        verifications={V2.image: Verification(release=V2.id, deployment="d-2", since=AT, at=AT)},
    )  # fmt: skip


def test_what_is_of_another_deployment_changes_no_rollout() -> None:
    for event in (
        ev.RolloutAdvanced(deployment="d-1", step=3),
        ev.RolloutReverting(deployment="d-1", ending=Outcome.CANCELLED, reason="no"),
        ev.RolloutEnded(deployment="d-1", outcome=Outcome.SUCCEEDED),
    ):
        assert after(MOVING, event) == MOVING
        assert after(state(), event) == state()


def test_an_end_that_comes_twice_counts_once() -> None:
    once = after(MOVING, ev.RolloutEnded(deployment="d-2", outcome=Outcome.SUPERSEDED))
    assert after(once, ev.RolloutEnded(deployment="d-2", outcome=Outcome.FAILED), at=AT + 1) == once


def succeed(env: EnvironmentState, **more: Any) -> EnvironmentState:
    return after(
        replace(env, rollout=replace(ROLLOUT, **more)), ev.RolloutEnded(deployment="d-2", outcome=Outcome.SUCCEEDED)
    )


@pytest.mark.parametrize(("kind", "warm"), [("rolling", True), ("blue-green", True), ("recreate", False)])
def test_what_was_replaced_stays_warm_for_the_time_of_baking(kind: str, warm: bool) -> None:
    before = state(config=environment(bake=60))
    found = succeed(before, strategy=environment(kind).strategy)
    assert found.warm == ({V1.id: AT + 60 * SECOND} if warm else {})
    assert succeed(state(config=None)).warm == succeed(state(warm={V3.id: 1})).warm == {}
    assert succeed(replace(before, stable=None)).warm == {}


def test_a_success_of_the_stable_release_itself_changes_no_time() -> None:
    found = succeed(state(config=environment(bake=60)), candidate=V1.id)
    assert (found.stable, found.stable_since, found.stables, found.warm) == (V1.id, 5, (V1.id,), {})
    assert found.verified == {V1.image}


def test_a_rollback_takes_what_it_left_off_the_releases_to_go_back_to() -> None:
    before = state(stables=(V1.id, V2.id, V1.id, V3.id))
    back = succeed(before, kind=DeploymentKind.ROLLBACK, candidate=V1.id)
    assert back.stables == (V1.id, V2.id, V1.id)
    assert succeed(before, kind=DeploymentKind.ROLLBACK, candidate=V2.id).stables == (V1.id, V2.id)
    assert succeed(before, candidate=V2.id).stables == (*before.stables, V2.id)
    new = succeed(state(stables=(V1.id,)), kind=DeploymentKind.ROLLBACK, candidate=V2.id)
    assert new.stables == (V1.id, V2.id)


def test_the_time_without_a_platform_is_not_the_steps() -> None:
    lost = after(MOVING, ev.PlatformLost(reason="?"))
    assert lost == replace(MOVING, rollout=replace(ROLLOUT, unreachable_since=AT))
    assert after(lost, ev.PlatformLost(reason="?"), at=AT + 1) == lost
    back = after(lost, ev.PlatformBack(), at=AT + 30)
    assert back == replace(MOVING, rollout=replace(ROLLOUT, step_at=100 + 30))
    for event in (ev.PlatformLost(reason="?"), ev.PlatformBack()):
        assert after(state(), event) == state()
    assert after(MOVING, ev.PlatformBack()) == MOVING


def test_small_changes() -> None:
    warm = state(warm={V1.id: 5, V2.id: 6})
    assert after(warm, ev.WarmEnded(release=V2.id)) == replace(warm, warm={V1.id: 5})
    held = Allocation(generation=3, holdings=(Holding(release=V1.id, process="web", serving=1),))
    assert after(state(), ev.AllocationSet(allocation=held)) == state(allocation=held)
    assert after(state(), ev.ControllerStarted(version="1")) == state()


# Acts


def act(verb: Verb, instance: InstanceId = A, number: int = 8, **more: Any) -> Action:
    return Action(verb=verb, number=number, instance=instance, **more)


def intended(env: EnvironmentState, action: Action) -> EnvironmentState:
    """What *env* was, with the act that is under way."""
    return replace(env, actions=action.number, pending={**env.pending, str(action.number): action})


def test_a_launch() -> None:
    action = act(Verb.LAUNCH, C, release=V2.id, process="worker")
    before, short = state(one(A)), short_release(V2.id)
    begun = after(before, ev.ActionIntended(action=action))
    new = Instance(id=C, release=V2.id, process="worker", launched_at=AT)
    assert begun == replace(intended(before, action), instances={A: one(A), C: new}, launches={short: 1})
    assert after(begun, ev.ActionIntended(action=replace(action, number=9, instance=B))).launches == {short: 2}
    assert after(begun, ev.ActionDone(number=8)) == replace(
        begun, pending={}, applied=8, instances={A: one(A), C: replace(new, started=True)}
    )
    failed = after(begun, ev.ActionDone(number=8, error="no room"), at=AT + 5)
    assert failed.instances[C] == replace(new, failed="no room")
    assert failed.backoff == {
        backoff.key(V2.id, "worker"): Backoff(
            failures=1, until=AT + 5, since=AT + 5, why="could not be launched: no room"
        )
    }


def test_an_outcome_of_nothing_changes_nothing_and_an_old_one_makes_nothing_older() -> None:
    assert after(state(), ev.ActionDone(number=8)) == state()
    late = intended(state(one(A), applied=20), act(Verb.KILL))
    assert after(late, ev.ActionDone(number=8)) == replace(late, pending={})


def test_an_end_that_is_asked_for() -> None:
    before = state(one(A), one(B))
    begun = after(before, ev.ActionIntended(action=act(Verb.STOP)))
    assert begun == replace(intended(before, act(Verb.STOP)), instances={A: one(A, stopped_at=AT), B: one(B)})
    assert after(begun, ev.ActionDone(number=8)) == replace(begun, pending={}, applied=8)
    assert after(before, ev.ActionIntended(action=act(Verb.STOP, C))) == intended(before, act(Verb.STOP, C))


def test_the_end_of_what_hung_counts_as_one_that_nobody_asked_for() -> None:
    before = state(one(A), one(B), allocation=Allocation(condemned=frozenset({A, C})))
    key = backoff.key(V1.id, "web")
    assert after(before, ev.ActionIntended(action=act(Verb.STOP))).backoff == {
        key: Backoff(failures=1, until=AT, since=AT, why="was not ready in time")
    }
    assert after(before, ev.ActionIntended(action=act(Verb.STOP, B))).backoff == {}
    assert after(before, ev.ActionIntended(action=act(Verb.STOP, C))).backoff == {}
    assert after(before, ev.ActionIntended(action=act(Verb.KILL))).backoff == {}


def test_a_kill() -> None:
    before = state(one(A, stopped_at=3))
    found = after(before, ev.ActionIntended(action=act(Verb.KILL)))
    assert found == replace(intended(before, act(Verb.KILL)), instances={A: one(A, stopped_at=3, killed_at=AT)})


def test_a_removal() -> None:
    before = state(one(A), one(B))
    begun = after(before, ev.ActionIntended(action=act(Verb.REMOVE)))
    assert begun == intended(before, act(Verb.REMOVE))
    assert after(begun, ev.ActionDone(number=8)) == replace(begun, pending={}, applied=8, instances={B: one(B)})
    failed = after(begun, ev.ActionDone(number=8, error="busy"))
    assert failed == replace(
        begun, pending={}, applied=8, backoff={"remove/web-a": Backoff(failures=1, until=AT, since=AT)}
    )


TABLE = {A: 256, InstanceId("unknown"): 1}


def test_a_table_that_is_set() -> None:
    before = state(
        one(A, drained_at=1), one(B, drained_at=2), one(C), table={B: 256}, hosts=("old",), launches={"x": 1}
    )
    action = act(Verb.ROUTE, InstanceId(""), table=TABLE, hosts=("h",))
    begun = after(before, ev.ActionIntended(action=action))
    assert begun == replace(intended(before, action), instances={**before.instances, A: one(A)})
    assert after(begun, ev.ActionDone(number=8)) == replace(
        begun, pending={}, applied=8, table=TABLE, hosts=("h",),
        instances={A: one(A), B: one(B, drained_at=AT), C: one(C, drained_at=AT)},
    )  # fmt: skip
    failed = after(begun, ev.ActionDone(number=8, error="?"))
    key = backoff.act_key(action)
    assert failed == replace(begun, pending={}, applied=8, backoff={key: Backoff(failures=1, until=AT, since=AT)})


def test_what_drains_goes_on_draining_from_when_it_began() -> None:
    before = state(one(A), one(B, drained_at=2), table={A: 256})
    action = act(Verb.ROUTE, InstanceId(""), table={A: 256}, hosts=())
    found = after(before, ev.ActionIntended(action=action), ev.ActionDone(number=8))
    assert found.instances == {A: one(A), B: one(B, drained_at=2)}


def test_of_two_tables_that_are_under_way_the_one_that_is_set_last_counts() -> None:
    first = act(Verb.ROUTE, InstanceId(""), table={A: 256})
    second = replace(first, number=9, table={B: 256})
    begun = after(state(one(A), one(B)), ev.ActionIntended(action=first), ev.ActionIntended(action=second))
    between = after(begun, ev.ActionDone(number=8))
    assert between.instances == {A: one(A), B: one(B, drained_at=AT)}
    assert after(between, ev.ActionDone(number=9)).instances == {A: one(A, drained_at=AT), B: one(B)}


def test_a_table_that_had_to_be_set_again_waits_before_it_is_set_a_third_time() -> None:
    before = state(one(A), table={A: 256}, hosts=("h",))
    same = act(Verb.ROUTE, InstanceId(""), table={A: 256}, hosts=("h",))
    key = backoff.act_key(same)
    again = after(before, ev.ActionIntended(action=same), ev.ActionDone(number=8))
    assert again.backoff == {key: Backoff(failures=1, until=AT, since=AT)}
    third = after(again, ev.ActionIntended(action=replace(same, number=9)), ev.ActionDone(number=9), at=AT + 1)
    assert third.backoff == {key: Backoff(failures=2, until=AT + 1 + SECOND, since=AT)}
    other = replace(same, number=9, hosts=("other",))
    assert after(again, ev.ActionIntended(action=other), ev.ActionDone(number=9)).backoff == {}


def test_a_table_that_was_set_forgets_the_failures_of_all_tables_and_of_nothing_else() -> None:
    pauses = {"route/x": Backoff(failures=3, until=9), "stop/web-a": Backoff(failures=1, until=9)}
    before = state(one(A), backoff=pauses)
    action = act(Verb.ROUTE, InstanceId(""), table={A: 256})
    key = backoff.act_key(action)
    before = replace(before, backoff={**pauses, key: Backoff(failures=4, until=9)})
    begun = after(before, ev.ActionIntended(action=action))
    assert after(begun, ev.ActionDone(number=8)).backoff == {"stop/web-a": Backoff(failures=1, until=9)}
    failed = after(begun, ev.ActionDone(number=8, error="?")).backoff
    assert failed == {**pauses, key: backoff.again(Backoff(failures=4, until=9), AT)}


def test_an_act_that_works_forgets_its_own_failures_only() -> None:
    pauses = {"route/x": Backoff(failures=3, until=9), "stop/web-a": Backoff(failures=1, until=9)}
    begun = after(state(one(A), backoff=pauses), ev.ActionIntended(action=act(Verb.STOP)))
    assert after(begun, ev.ActionDone(number=8)).backoff == {"route/x": Backoff(failures=3, until=9)}


# What was observed


def test_ready_unready_and_ready_again() -> None:
    before = state(one(A, unready_at=5), one(B))
    ready = after(before, ev.InstanceReady(instance=A))
    assert ready == state(one(A, ready_at=AT, ever_ready=True), one(B))
    unready = after(ready, ev.InstanceUnready(instance=A, problem="?"), at=AT + 1)
    assert unready == state(one(A, ever_ready=True, unready_at=AT + 1, flaps=1), one(B))
    often = state(one(A, ready_at=AT, flaps=5))
    assert after(often, ev.InstanceUnready(instance=A), at=AT + MINUTE - 1).instances[A].flaps == 6
    assert after(often, ev.InstanceUnready(instance=A), at=AT + MINUTE).instances[A].flaps == 1
    assert after(state(one(A, flaps=5)), ev.InstanceUnready(instance=A)).instances[A].flaps == 6
    for event in (ev.InstanceReady(instance=C), ev.InstanceUnready(instance=C)):
        assert after(before, event) == before


@pytest.mark.parametrize(
    ("event", "exit_"),
    [
        (ev.InstanceExited(instance=A, exit=Exit(code=3, at=44)), Exit(code=3, at=44)),
        (ev.InstanceLost(instance=A), Exit(code=-1, at=AT)),
    ],
)
def test_an_end(event: Event, exit_: Exit) -> None:
    before = state(one(A, ready_at=AT - SECOND, launched_at=5), one(B))
    found = after(before, event)
    pause = {backoff.key(V1.id, "web"): Backoff(failures=1, until=AT, since=AT, why=str(exit_))}
    assert found == replace(before, instances={A: one(A, exit=exit_, launched_at=5), B: one(B)}, backoff=pause)
    assert after(found, ev.InstanceExited(instance=A, exit=Exit(code=9, at=1))) == found, "one that ended has ended"
    asked = state(one(A, stopped_at=7))
    assert after(asked, event) == state(one(A, stopped_at=7, exit=exit_))
    assert after(state(one(B)), event) == state(one(B))


def test_ends_in_a_row_are_counted_for_each_process_of_each_release() -> None:
    key = backoff.key(V1.id, "web")
    before = state(
        one(A, launched_at=AT),
        backoff={key: Backoff(failures=2, until=AT - SECOND), "x": Backoff(failures=1, until=1)},
    )
    found = after(before, ev.InstanceLost(instance=A))
    assert found.backoff == {
        "x": Backoff(failures=1, until=1),
        key: Backoff(failures=3, until=AT + 2 * SECOND, why="is gone"),
    }


def test_how_a_class_is_copied_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[type, Any] = {}
    monkeypatch.setattr(owned, "_SHAPES", known)
    assert owned.changed(one(A), started=False, exit=Exit(code=1, at=2)) == one(
        A, started=False, exit=Exit(code=1, at=2)
    )
    shape = known[Instance]
    assert owned.changed(one(A), failed="x") == one(A, failed="x")
    assert known == {Instance: shape}
    with pytest.raises((AttributeError, KeyError)):
        owned.changed(one(A), nothing=1)


# The whole installation

IMAGE = Image(digest=digest_of(b"image"), app="shop", processes=(WEB,), layers=(), size=0)


def recorded(event: Event, index: int = 4, environment: str = "", key: str = "") -> Recorded:
    return Recorded(
        index=index, at=AT + index, actor="ben", event=event, environment=EnvironmentId(environment), key=key
    )


def test_an_image_that_is_built_and_built_again() -> None:
    first, other = Source(commit="a" * 40), Source(commit="b" * 40)
    event = ev.ImageBuilt(image=IMAGE, source=first)
    once = apply(InstallationState(deployments=3), recorded(event))
    built = BuiltImage(image=IMAGE, sources=(first,), actor="ben", built_at=AT + 4, last_built_at=AT + 4)
    assert once == InstallationState(size=5, images={IMAGE.digest: built}, deployments=3)
    twice = apply_all(once, [recorded(event, 5), recorded(replace(event, source=other), 6)])
    again = replace(built, sources=(first, other), last_built_at=AT + 6)
    assert twice == InstallationState(size=7, images={IMAGE.digest: again}, deployments=3)


def test_an_image_has_each_lock_that_it_was_built_with_once() -> None:
    built, state_ = ev.ImageBuilt(image=IMAGE, source=Source(commit="a" * 40)), InstallationState()
    for lock, locks in (("", ()), ("one", ("one",)), ("one", ("one",)), ("two", ("one", "two"))):
        state_ = apply(state_, recorded(replace(built, lock=lock)))
        assert state_.images[IMAGE.digest].locks == locks


def test_a_disk_is_remembered_by_its_digest_with_the_commits_and_the_locks_that_it_was_made_for() -> None:
    disk = Disk(
        digest=digest_of(b"manifest"), image=IMAGE.digest, raw=digest_of(b"raw"), size=64 << 20, root_hash="0" * 64,
        uki=digest_of(b"uki"), kernel="6.1.0-40-cloud-amd64",
    )  # fmt: skip
    event = ev.DiskBuilt(disk=disk, commit="a" * 40, lock="one")
    once = apply(InstallationState(), recorded(event))
    made = BuiltDisk(
        disk=disk, commits=("a" * 40,), actor="ben", built_at=AT + 4, last_built_at=AT + 4, locks=("one",)
    )
    assert once == InstallationState(size=5, disks={disk.digest: made}), "an image of its own name is not in it"
    later = [recorded(event, 5), recorded(replace(event, commit="b" * 40, lock="two"), 6)]
    again = replace(made, commits=("a" * 40, "b" * 40), last_built_at=AT + 6, locks=("one", "two"))
    assert apply_all(once, later) == InstallationState(size=7, disks={disk.digest: again})
    assert apply(InstallationState(), recorded(replace(event, lock=""))).disks[disk.digest].locks == ()


def test_a_disk_that_was_taken_from_a_registry_is_known_with_who_signed_it() -> None:
    disk = Disk(
        digest=digest_of(b"manifest"), image=IMAGE.digest, raw=digest_of(b"raw"), size=64 << 20, root_hash="0" * 64,
        uki=digest_of(b"uki"), kernel="6.1.0-40-cloud-amd64",
    )  # fmt: skip
    event = ev.DiskImported(disk=disk, name="r.example.com/shop", keys=("k-1",))
    taken = apply(InstallationState(), recorded(event))
    kept = BuiltDisk(disk=disk, commits=(), actor="ben", built_at=AT + 4, last_built_at=AT + 4)
    assert taken.disks == {disk.digest: kept}
    assert [(item.key, item.at) for item in taken.attested[disk.digest]] == [("k-1", AT + 4)]
    again = apply(taken, recorded(replace(event, keys=("k-1", "k-2")), 9))
    assert again.disks == {disk.digest: replace(kept, last_built_at=AT + 9)}
    assert [item.key for item in again.attested[disk.digest]] == ["k-1", "k-2"]
    built = apply(InstallationState(), recorded(ev.DiskBuilt(disk=disk, commit="a" * 40, lock="one")))
    assert apply(built, recorded(event, 7)).disks[disk.digest].commits == ("a" * 40,)


def test_the_last_time_that_the_disk_was_cleaned() -> None:
    before = InstallationState(deployments=3)
    found = apply(before, recorded(ev.StorageCleaned(bytes=7, problem="busy")))
    assert found == replace(before, size=5, cleaned=Cleaning(at=AT + 4, bytes=7, problem="busy"))
    assert apply(before, recorded(ev.StorageCleaning(bytes=7))) == replace(before, size=5)


def test_a_request_is_remembered_by_its_key() -> None:
    asked = ev.DeploymentRequested(
        deployment="d-1", deployment_kind=DeploymentKind.DEPLOY, release=V1, strategy=environment().strategy
    )
    found = apply(
        InstallationState(requests={"k0": "d-0"}, deployments=1), recorded(asked, environment=SHOP, key="k1")
    )
    assert (found.size, found.requests, found.deployments) == (5, {"k0": "d-0", "k1": "d-1"}, 2)
    env = evolve(EnvironmentState(id=SHOP), asked, AT + 4, "ben")
    assert found.environments == {SHOP: replace(env, revision=4)}
    assert apply(InstallationState(), recorded(asked, environment=SHOP)).requests == {}


def test_an_event_of_an_environment_changes_that_one() -> None:
    other = EnvironmentId("shop/other")
    before = InstallationState(environments={SHOP: state(revision=2), other: EnvironmentState(id=other)})
    found = apply(before, recorded(ev.Scaled(process="web", count=5), environment=SHOP, key="k"))
    scaled = state(revision=4, wanted={"web": 5, "worker": 1})
    assert found == InstallationState(size=5, environments={SHOP: scaled, other: EnvironmentState(id=other)})
    seen = apply(found, recorded(ev.AllocationSet(allocation=Allocation(generation=2)), 5, SHOP))
    assert seen.environments[SHOP] == replace(scaled, allocation=Allocation(generation=2)), "no plan is stale by that"
    assert apply(found, recorded(ev.ControllerStarted(version="1"), 5)) == replace(found, size=6)


def test_an_image_that_was_taken_from_a_registry() -> None:
    event = ev.ImageImported(image=IMAGE, name="r.example.com/shop", tag="1", keys=("k-1", "k-2"))
    taken = apply(InstallationState(), recorded(event))
    kept = BuiltImage(image=IMAGE, sources=(), actor="ben", built_at=AT + 4, last_built_at=AT + 4)
    assert taken.images == {IMAGE.digest: kept}
    assert taken.tags == {"r.example.com/shop:1": IMAGE.digest}
    assert [(item.key, item.at) for item in taken.attested[IMAGE.digest]] == [("k-1", AT + 4), ("k-2", AT + 4)]

    # Once more, by its digest and with one key more: what is known stays.
    again = apply(taken, recorded(replace(event, tag="", keys=("k-2", "k-3")), 9))
    assert again.images == {IMAGE.digest: replace(kept, last_built_at=AT + 9)}
    assert again.tags == taken.tags
    assert [item.key for item in again.attested[IMAGE.digest]] == ["k-1", "k-2", "k-3"]

    other = replace(IMAGE, digest=digest_of(b"other"))
    moved = apply(again, recorded(replace(event, image=other, keys=()), 10))
    assert moved.tags == {"r.example.com/shop:1": other.digest}
    assert moved.attested == again.attested


def test_an_image_that_was_built_here_keeps_where_it_is_from() -> None:
    source = Source(commit="a" * 40)
    built = apply(InstallationState(), recorded(ev.ImageBuilt(image=IMAGE, source=source)))
    taken = apply(built, recorded(ev.ImageImported(image=IMAGE, name="r.example.com/shop"), 7))
    assert taken.images[IMAGE.digest] == replace(built.images[IMAGE.digest], last_built_at=AT + 7)
    assert taken.tags == {}
    assert apply(taken, recorded(ev.ImagePushed(image=IMAGE.digest, name="r"), 8)) == replace(taken, size=9)
