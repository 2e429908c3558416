"""One turn of deciding, a case each: which events, in which words, and when to look again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import backoff, failures, timers
from stelae.core.decide import Decision, decide
from stelae.core.failures import Failure, failure
from stelae.core.gates import is_held, is_last, reverted
from stelae.core.target import given_up_at, move, target
from stelae.core.traffic import entry, scaled
from stelae.domain import event as ev
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.event import Event
from stelae.domain.observation import Exit, Observation, Seen
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.release import ReleaseId
from stelae.domain.state import Backoff, EnvironmentState, Instance, Outcome, Phase
from stelae.domain.units import MINUTE, SECOND
from tests.unit.core.fixtures import ROLLOUT, V1, V2, WEB, WORKER, environment, one, release, state

AT = 1000 * SECOND
A, B, C, D = (InstanceId(f"web-{letter}") for letter in "abcd")
W = InstanceId("worker-w")


def seen(*names: InstanceId, phase: SeenPhase = SeenPhase.READY, **more: Any) -> Observation:
    table = more.pop("table", names)
    views = {name: Seen(id=name, phase=phase) for name in names}
    views.update(more.pop("views", {}))
    return Observation(as_of=AT, applied=6, instances=views, table=dict.fromkeys(table, 256), **more)


def settled(env: EnvironmentState, now: int = AT) -> EnvironmentState:
    """*env*, with the allocation that it should have."""
    return replace(env, allocation=target(env, now))


def new(name: InstanceId, **more: Any) -> Instance:
    """An instance of V2 that the rollout launched."""
    return one(name, release=V2.id, launched_at=200, **more)


def events(env: EnvironmentState, looked: Observation | None, now: int = AT) -> tuple[Event, ...]:
    return decide(settled(env, now), looked, now).events


# What was observed becomes facts


@pytest.mark.parametrize(
    ("before", "view", "fact"),
    [
        (one(A), Seen(id=A, phase=SeenPhase.READY), ev.InstanceReady(instance=A)),
        (one(A), Seen(id=A, phase=SeenPhase.STARTING), None),
        (one(A), Seen(id=A, phase=SeenPhase.UNREADY, problem="x"), None),
        (one(A, ready_at=5), Seen(id=A, phase=SeenPhase.READY), None),
        (one(A, ready_at=5), Seen(id=A, phase=SeenPhase.UNREADY, problem="p" * 500),
         ev.InstanceUnready(instance=A, problem="p" * 400)),
        (one(A, ready_at=5, stopped_at=9), Seen(id=A, phase=SeenPhase.UNREADY, problem="x"), None),
        (one(A, stopped_at=9), Seen(id=A, phase=SeenPhase.READY), None),
        (one(A, unready_at=AT, flaps=2), Seen(id=A, phase=SeenPhase.READY), ev.InstanceReady(instance=A)),
        (one(A, unready_at=AT - SECOND, flaps=3), Seen(id=A, phase=SeenPhase.READY), ev.InstanceReady(instance=A)),
        (one(A, unready_at=AT - SECOND + 1, flaps=3), Seen(id=A, phase=SeenPhase.READY), None),
        (one(A), Seen(id=A, phase=SeenPhase.EXITED), ev.InstanceLost(instance=A)),
        (one(A, stopped_at=9), Seen(id=A, phase=SeenPhase.EXITED, exit=Exit(code=143, at=8, last_lines=("y" * 500,))),
         ev.InstanceExited(instance=A, exit=Exit(code=143, at=8, last_lines=("y" * 400,)))),
        (one(A, exit=Exit(code=1, at=1)), Seen(id=A, phase=SeenPhase.EXITED, exit=Exit(code=1, at=1)), None),
        (one(A, failed="no"), Seen(id=A, phase=SeenPhase.READY), None),
    ],
)  # fmt: skip
def test_what_one_view_of_an_instance_says(before: Instance, view: Seen, fact: Event | None) -> None:
    found = decide(state(before), seen(complete=False, views={A: view}), AT).events
    assert found == (() if fact is None else (fact,))


def test_what_is_not_there_is_lost_only_when_all_is_known() -> None:
    env, gone = state(one(A), one(B, started=False)), ev.InstanceLost(instance=A)
    assert gone in decide(env, seen(), AT).events
    assert ev.InstanceLost(instance=B) not in decide(env, seen(), AT).events
    assert decide(env, seen(complete=False), AT).events == ()
    assert decide(env, replace(seen(), applied=5), AT).events == ()


def test_what_is_over_hides_nothing_of_the_others() -> None:
    env = state(one(A, exit=Exit(code=1, at=1)), one(B, failed="no"), one(C))
    assert decide(env, seen(C, complete=False), AT).events == (ev.InstanceReady(instance=C),)


# A platform that does not answer


def test_without_an_observation_a_rollout_waits_for_its_deadline_and_fails() -> None:
    assert decide(state(one(A)), None, AT) == Decision()
    env = state(rollout=ROLLOUT)
    assert decide(env, None, AT) == Decision(events=(ev.PlatformLost(reason="the platform does not answer"),))
    lost = state(rollout=replace(ROLLOUT, unreachable_since=AT, details=("d",)))
    end = AT + ROLLOUT.strategy.platform
    assert decide(lost, None, end - 1) == Decision(wake=end)
    failed = ev.RolloutEnded(
        deployment="d-2", outcome=Outcome.FAILED, reason="the platform did not answer for 300 s", details=("d",)
    )
    assert decide(lost, None, end) == Decision(events=(failed,))
    assert ev.PlatformBack() in decide(lost, seen(), AT).events
    assert decide(lost, seen(complete=False), AT).events[0] == ev.PlatformBack()
    assert ev.PlatformBack() not in decide(env, seen(), AT).events


# The turns of a rollout


def test_a_step_that_is_done_is_followed_by_the_next_and_the_last_by_success() -> None:
    served = (one(A, ready_at=1), new(B, ready_at=1))
    env = state(*served, wanted={"web": 2}, rollout=ROLLOUT, config=environment(web=2, worker=0))
    rollout = replace(ROLLOUT, strategy=replace(ROLLOUT.strategy, batch=50), step_at=AT)
    env = replace(env, rollout=rollout)
    found = events(env, seen(A, B))
    assert found[0] == ev.RolloutAdvanced(deployment="d-2", step=1)
    assert isinstance(found[1], ev.AllocationSet)
    assert found[1].allocation.generation == settled(env).allocation.generation + 1
    last = replace(env, rollout=replace(rollout, step=1))
    done = replace(last, instances={B: new(B, ready_at=1), C: new(C, ready_at=1)})
    ended = events(done, seen(B, C))
    assert ended[0] == ev.RolloutEnded(deployment="d-2", outcome=Outcome.SUCCEEDED)
    assert events(last, seen(A, B)) == ()


def test_a_candidate_that_fails_is_reverted_for_its_reason() -> None:
    env = state(new(B, exit=Exit(code=3, at=300, last_lines=("x",))), rollout=ROLLOUT)
    found = events(env, seen())
    assert found[0] == ev.RolloutReverting(
        deployment="d-2", ending=Outcome.REVERTED, reason=f"instance {B} exited with status 3 before it was ready",
        details=("x",),
    )  # fmt: skip


def test_a_step_without_progress_goes_back_at_its_deadline() -> None:
    env = state(rollout=replace(ROLLOUT, step=2, step_at=AT))
    end = AT + ROLLOUT.strategy.progress
    overdue = ev.RolloutReverting(
        deployment="d-2", ending=Outcome.REVERTED, reason="step 3 made no progress for 600 s"
    )
    for complete in (True, False):
        assert overdue not in events(env, seen(complete=complete), end - 1)
        assert overdue in events(env, seen(complete=complete), end)


def test_a_revert_ends_as_it_was_meant_to_when_the_stable_release_serves() -> None:
    back = replace(ROLLOUT, phase=Phase.REVERTING, ending=Outcome.CANCELLED, reason="no", details=("d",), step_at=AT)
    env = state(one(A, ready_at=1), one(B, ready_at=1), one(W, ready_at=1, process="worker"), rollout=back)
    ended = ev.RolloutEnded(deployment="d-2", outcome=Outcome.CANCELLED, reason="no", details=("d",))
    assert events(env, seen(A, B, W, table=(A, B)))[0] == ended
    assert ended not in events(env, seen(A, B, W, table=(A,)))
    late = AT + back.strategy.progress
    failed = ev.RolloutEnded(
        deployment="d-2", outcome=Outcome.FAILED, reason="no; and the stable release did not come back in time",
        details=("d",),
    )  # fmt: skip
    assert failed in events(env, seen(A, B, W, table=(A,)), late)
    assert failed not in events(env, seen(A, B, W, table=(A,)), late - 1)


@pytest.mark.parametrize(("ending", "outcome"), [("reverted", "failed"), ("cancelled", "cancelled")])
def test_a_first_deployment_that_goes_back_has_failed(ending: str, outcome: str) -> None:
    back = replace(ROLLOUT, stable=None, phase=Phase.REVERTING, ending=Outcome(ending), reason="no")
    env = state(rollout=back, stable=None)
    assert events(env, seen())[0] == ev.RolloutEnded(deployment="d-2", outcome=Outcome(outcome), reason="no")


def test_a_warm_release_cools_when_its_time_has_come_and_nothing_is_under_way() -> None:
    env = state(warm={V2.id: AT, "r-later": AT + 1})
    env = replace(env, releases={**env.releases, "r-later": V2})
    assert ev.WarmEnded(release=V2.id) in decide(env, seen(), AT).events
    assert ev.WarmEnded(release=ReleaseId("r-later")) not in decide(env, seen(), AT).events
    moving = replace(env, rollout=ROLLOUT)
    assert ev.WarmEnded(release=V2.id) not in decide(moving, seen(), AT).events


# Failures


def judged(*instances: Instance, views: Mapping[InstanceId, Seen] | None = None, now: int = AT) -> Failure | None:
    return failure(state(*instances, rollout=ROLLOUT), ROLLOUT, seen(views=dict(views or {})), now)


def test_only_the_candidates_own_instances_are_judged() -> None:
    gone = Exit(code=3, at=300)
    assert judged(one(A, exit=gone), one(C, failed="no", launched_at=200)) is None
    assert judged(new(B, exit=gone, stopped_at=250)) is None
    assert judged(new(B, ready_at=1), new(C)) is None
    assert judged(replace(new(B, exit=Exit(code=3, at=99)), launched_at=99)) is None
    assert judged(replace(new(B, failed="no"), launched_at=99)) is None
    assert judged(replace(new(B, failed="no"), launched_at=100)) is not None
    assert judged(replace(new(B, exit=Exit(code=3, at=99)), launched_at=100)) is not None
    warm = judged(replace(new(B, exit=Exit(code=3, at=100), ever_ready=True), launched_at=50))
    assert warm == Failure(reason=f"instance {B} exited with status 3 after it was ready")


def test_why_an_instance_failed() -> None:
    assert judged(new(B, failed="no room")) == Failure(reason=f"instance {B} could not be launched: no room")
    lines = tuple(str(number) for number in range(30))
    shown = Seen(id=B, phase=SeenPhase.UNREADY, problem="q" * 500, last_lines=lines)
    was = judged(new(B, ever_ready=True, unready_at=5), views={B: shown})
    assert was == Failure(
        reason=f"instance {B} was ready and is not any more: {'q' * 400}", details=lines[-failures.MOST_LINES :]
    )
    assert judged(new(B, ever_ready=True, ready_at=5), views={B: shown}) is None
    quiet = judged(new(B, ever_ready=True), views={B: replace(shown, problem="")})
    assert quiet is not None
    assert quiet.reason == f"instance {B} was ready and is not any more"
    again = Seen(id=B, phase=SeenPhase.READY)
    assert judged(new(B, ever_ready=True), views={B: again}, now=300) is None


def test_an_instance_has_its_time_to_start() -> None:
    slow = Seen(id=B, phase=SeenPhase.STARTING, problem="refused", last_lines=("a",))
    limit = 200 + WEB.health.start
    assert judged(new(B), views={B: slow}, now=limit - 1) is None
    assert judged(new(B), views={B: slow}, now=limit) == Failure(
        reason=f"instance {B} was not ready within 30 s: refused", details=("a",)
    )
    assert judged(new(B), views={B: replace(slow, phase=SeenPhase.UNREADY)}, now=limit - 1) is None
    assert judged(new(B), now=limit) is None, "what cannot be seen is not judged"
    assert judged(new(B, process="gone"), views={B: slow}, now=limit) is None


# Gates


def test_a_step_needs_its_instances_for_as_long_as_the_strategy_says() -> None:
    soak = replace(ROLLOUT, strategy=replace(ROLLOUT.strategy, batch=50, min_healthy=5 * SECOND))
    env = state(one(A, ready_at=1), new(B, ready_at=AT - 5 * SECOND), wanted={"web": 2}, rollout=soak)
    assert is_held(env, soak, seen(A, B), AT)
    assert not is_held(env, soak, seen(A, B), AT - 1)
    assert not is_held(env, soak, seen(A, B, table=(A,)), AT), "the traffic is not there"
    assert not is_held(replace(env, instances={A: env.instances[A], B: new(B)}), soak, seen(A, B), AT)
    more = replace(env, wanted={"web": 4})
    assert not is_held(more, soak, seen(A, B), AT), "two are needed"
    assert not is_last(env, soak)
    assert is_last(env, replace(soak, step=1))
    assert is_last(env, replace(soak, step=2))


def test_recreate_waits_until_nothing_else_runs() -> None:
    first = replace(ROLLOUT, strategy=environment("recreate").strategy)
    for alive in (one(A), one(A, stopped_at=5)):
        assert not is_held(state(alive, rollout=first), first, seen(table=()), AT)
    for gone in (one(A, exit=Exit(code=0, at=1)), one(A, failed="no"), new(A)):
        assert is_held(state(gone, rollout=first), first, seen(table=()), AT)
    served = state(new(B, ready_at=1), wanted={"web": 1}, rollout=first)
    second = replace(first, step=1)
    assert is_held(served, second, seen(B), AT)
    assert not is_held(served, second, seen(B, table=()), AT)
    direct = state(new(B, ready_at=1), one(A), wanted={"web": 1}, stable=V2.id, rollout=first)
    assert is_held(direct, first, seen(B), AT)


def test_blue_green_wants_no_traffic_before_and_all_of_it_after_the_switch() -> None:
    blue = replace(ROLLOUT, strategy=environment("blue-green").strategy)
    env = state(one(A, ready_at=1), new(B, ready_at=1), wanted={"web": 1}, rollout=blue)
    assert is_held(env, blue, seen(A, B, table=(A,)), AT)
    green = replace(blue, step=1)
    assert is_held(env, green, seen(A, B, table=(B,)), AT)
    assert not is_held(env, green, seen(A, B, table=(A, B)), AT)
    assert not is_held(env, green, seen(A, B, table=(A,)), AT)


def test_a_release_without_a_port_needs_no_traffic() -> None:
    job = release("job", WORKER)
    moving = replace(ROLLOUT, candidate=job.id, stable=None)
    worker = one(W, release=job.id, process="worker", ready_at=1, launched_at=200)
    env = state(worker, stable=None, wanted={"worker": 1}, rollout=moving, releases={job.id: job})
    assert is_held(env, moving, seen(W, table=()), AT)


def test_each_instance_counts_once() -> None:
    job = release("job", WORKER)
    moving = replace(ROLLOUT, candidate=job.id, stable=None)
    workers = [one(name, release=job.id, process="worker", ready_at=1, launched_at=200) for name in (A, B)]
    env = state(*workers[:1], stable=None, wanted={"worker": 2}, rollout=moving, releases={job.id: job})
    assert not is_held(env, moving, seen(table=()), AT)
    assert is_held(replace(env, instances={A: workers[0], B: workers[1]}), moving, seen(table=()), AT)


def test_the_end_of_a_rolling_path_wants_all_of_the_traffic() -> None:
    env = state(one(A, ready_at=1), new(B, ready_at=1), wanted={"web": 1}, rollout=ROLLOUT, stable=V2.id)
    assert is_held(env, ROLLOUT, seen(A, B, table=(B,)), AT)
    assert not is_held(env, ROLLOUT, seen(A, B, table=(A, B)), AT)


def test_a_revert_is_done_when_the_stable_release_has_the_traffic_alone() -> None:
    back = replace(ROLLOUT, phase=Phase.REVERTING)
    env = state(one(A, ready_at=1), new(B, ready_at=1), wanted={"web": 1}, rollout=back)
    assert reverted(env, back, seen(A, B, table=(A,)))
    assert not reverted(env, back, seen(A, B, table=(A, B)))
    assert not reverted(replace(env, wanted={"web": 2}), back, seen(A, B, table=(A,)))
    assert not reverted(env, back, seen(A, B, table=()))
    third = release("v3")
    stranger = one(C, release=third.id, ready_at=1)
    crowd = replace(env, instances={**env.instances, C: stranger}, releases={**env.releases, third.id: third})
    assert not reverted(crowd, back, seen(A, B, C, table=(A, C)))
    own = replace(back, candidate=V1.id)
    assert reverted(env, own, seen(A, B, table=(A,)))
    for none in (replace(env, stable=None), replace(env, down=True)):
        assert reverted(none, back, seen(table=()))
        assert not reverted(none, back, seen(A, B, table=(A,)))


def test_a_revert_waits_until_the_candidate_has_no_traffic_though_the_stable_release_takes_none() -> None:
    job, back = release("job", WORKER), replace(ROLLOUT, phase=Phase.REVERTING)
    worker = one(W, release=job.id, process="worker", ready_at=1)
    env = state(
        worker,
        new(B, ready_at=1),
        stable=job.id,
        wanted={"worker": 1},
        rollout=back,
        releases={job.id: job, V2.id: V2},
    )
    assert not reverted(env, back, seen(W, B, table=(B,)))
    assert reverted(env, back, seen(W, B, table=()))


def test_traffic_for_what_is_not_in_the_record_is_of_no_release() -> None:
    env = state(one(A, ready_at=1), wanted={"web": 1}, stable=V1.id, rollout=replace(ROLLOUT, candidate=V1.id))
    assert is_held(env, replace(ROLLOUT, candidate=V1.id), seen(A), AT)
    assert not is_held(env, replace(ROLLOUT, candidate=V1.id), seen(A, D), AT)


# The target


def holdings(env: EnvironmentState, now: int = AT) -> dict[tuple[str, str], tuple[int, int]]:
    names = {V1.id: "v1", V2.id: "v2"}
    return {(names[h.release], h.process): (h.serving, h.warm) for h in target(env, now).holdings}


def test_at_rest_the_stable_release_is_held_and_what_is_warm() -> None:
    env = state()
    assert target(env, AT) == Allocation(
        generation=1, hosts=("shop.test.localhost",), floor={"web": 2, "worker": 1},
        holdings=(
            Holding(release=V1.id, process="web", serving=2), Holding(release=V1.id, process="worker", serving=1),
        ),
    )  # fmt: skip
    held = settled(env)
    assert target(held, AT) is held.allocation
    assert holdings(replace(env, warm={V2.id: AT + 1}))["v2", "web"] == (0, 2)
    recreate = replace(env, warm={V2.id: AT + 1}, config=environment("recreate"))
    assert ("v2", "web") not in holdings(recreate)
    assert holdings(replace(env, down=True)) == holdings(replace(env, stable=None)) == {}
    bare = target(replace(env, config=None), AT)
    assert (bare.hosts, len(bare.holdings)) == ((), 2)


def test_a_rollout_holds_its_step_and_a_revert_the_stable_release_alone() -> None:
    env = state(rollout=replace(ROLLOUT, step=1), warm={V2.id: AT + 1})
    assert holdings(env) == {("v1", "web"): (1, 0), ("v1", "worker"): (1, 0), ("v2", "web"): (2, 0)}
    assert holdings(replace(env, config=environment(bake=9)))["v1", "web"] == (1, 1)
    back = replace(env, rollout=replace(ROLLOUT, phase=Phase.REVERTING))
    assert holdings(back) == {("v1", "web"): (2, 0), ("v1", "worker"): (1, 0)}
    assert holdings(replace(back, stable=None)) == {}


def test_what_a_move_is() -> None:
    found = move(state(rollout=ROLLOUT), ROLLOUT)
    assert (found.strategy, found.wanted) == (ROLLOUT.strategy, {"web": 2, "worker": 1})
    assert (found.candidate, found.stable, found.keep) == (V2, V1, False)
    assert move(state(config=environment(bake=9)), ROLLOUT).keep is True
    assert move(state(config=None, stable=None), ROLLOUT).stable is None
    assert move(state(config=None), ROLLOUT).keep is False


@pytest.mark.parametrize(
    ("instances", "held"),
    [
        ((), True),
        ((one(A),), True),
        ((new(B),), False),
        ((new(B, stopped_at=5),), False),
        ((new(B, exit=Exit(code=0, at=1)),), True),
        ((new(B, failed="no"),), True),
        ((one(A), new(B)), True),
        ((one(A, stopped_at=5), new(B)), False),
        ((one(A, exit=Exit(code=0, at=1)), new(B)), False),
    ],
)
def test_with_recreate_the_stable_release_waits_until_nothing_of_another_runs(
    instances: tuple[Instance, ...], held: bool
) -> None:
    env = state(*instances, config=environment("recreate"))
    assert bool(holdings(env)) is held
    back = replace(ROLLOUT, phase=Phase.REVERTING, strategy=environment("recreate").strategy)
    assert bool(holdings(replace(env, config=environment(), rollout=back))) is held
    forward = replace(ROLLOUT, candidate=V1.id, strategy=environment("recreate").strategy)
    assert bool(holdings(replace(env, config=environment(), rollout=forward))) is held
    assert holdings(replace(env, config=environment())), "other strategies wait for nothing"


def test_what_hangs_is_condemned_unless_the_rollout_judges_it() -> None:
    limit = WEB.health.start
    env = state(one(A))
    assert target(state(one(B, ready_at=1), one(A), one(C)), limit).condemned == {A, C}
    assert target(env, limit - 1).condemned == frozenset()
    assert target(env, limit).condemned == {A}
    for other in (one(A, ready_at=1), one(A, stopped_at=1), one(A, exit=Exit(code=0, at=1)), one(A, failed="no")):
        assert target(state(other), limit).condemned == frozenset()
    assert target(state(one(A, unready_at=5)), limit + 4).condemned == frozenset()
    assert target(state(one(A, unready_at=5)), limit + 5).condemned == {A}
    assert target(state(one(A, process="gone")), limit).condemned == frozenset()
    pause = {backoff.key(V1.id, "web"): Backoff(failures=2, until=limit + 9)}
    assert target(state(one(A), backoff=pause), limit + 8).condemned == frozenset()
    assert target(state(one(A), backoff=pause), limit + 9).condemned == {A}
    moving = state(new(B), one(C, launched_at=200), replace(new(D), launched_at=99), rollout=ROLLOUT)
    assert target(moving, limit + 200).condemned == {C, D}
    assert target(replace(moving, rollout=replace(ROLLOUT, phase=Phase.REVERTING)), limit + 200).condemned == {
        B,
        C,
        D,
    }
    assert target(state(replace(new(B), launched_at=100), rollout=ROLLOUT), AT).condemned == frozenset()


def test_in_back_off_nothing_is_launched_and_nothing_that_runs_is_taken_away() -> None:
    pause = {backoff.key(V1.id, "web"): Backoff(failures=2, until=AT + 1)}
    for instances, expected in (((), 0), ((one(A),), 1), ((one(A), one(B)), 2), ((one(A), one(B), one(C)), 2)):
        env = state(*(replace(item, ready_at=1) for item in instances), backoff=pause)
        assert holdings(env)["v1", "web"] == (expected, 0)
        assert holdings(env)["v1", "worker"] == (1, 0)
        assert holdings(env, AT + 1)["v1", "web"] == (2, 0)
    warm = {backoff.key(V2.id, "web"): Backoff(failures=2, until=AT + 1)}
    env = state(new(A, ready_at=1), warm={V2.id: AT + 9}, backoff=warm)
    assert holdings(env)["v2", "web"] == (0, 1)
    moving = state(one(A, ready_at=1), config=environment(bake=9), rollout=replace(ROLLOUT, step=1), backoff=pause)
    assert holdings(moving)["v1", "web"] == (1, 0)
    ended = state(one(A, exit=Exit(code=1, at=1)), one(B, stopped_at=4), one(W, process="worker"), backoff=pause)
    assert holdings(ended)["v1", "web"] == (0, 0)


# When to look again


def wakes(env: EnvironmentState, now: int = AT) -> int | None:
    return timers.next_wake(env, now)


def test_every_deadline_wakes() -> None:
    late = AT + 9
    assert wakes(state(one(A, ready_at=1))) is None
    assert wakes(state(warm={V2.id: late})) == late
    assert wakes(state(backoff={"x": Backoff(failures=1, until=late)})) == late
    assert wakes(state(warm={V2.id: AT}, backoff={"x": Backoff(failures=1, until=AT + 1)})) == AT + 1
    moving = replace(ROLLOUT, step_at=AT)
    assert wakes(state(rollout=moving)) == AT + ROLLOUT.strategy.progress
    lost = replace(moving, unreachable_since=AT - 5)
    assert wakes(state(rollout=lost)) == AT - 5 + ROLLOUT.strategy.platform


@pytest.mark.parametrize(
    ("instance", "at"),
    [
        (one(A, launched_at=AT), AT + WEB.health.start),
        (one(A, launched_at=AT, process="gone"), None),
        (one(A, ready_at=1, drained_at=AT), AT + WEB.drain),
        (one(A, stopped_at=AT), AT + WEB.stop),
        (one(A, ready_at=1, stopped_at=AT), AT + WEB.stop),
        (one(A, stopped_at=AT, exit=Exit(code=0, at=1)), None),
        (one(A, stopped_at=AT - WEB.stop, killed_at=AT), AT + WEB.stop),
        (one(A, stopped_at=AT - WEB.stop, killed_at=AT - 1), AT - 1 + WEB.stop - 1),
        (one(A, stopped_at=AT - SECOND, killed_at=AT), AT + 5 * SECOND),
        (one(A, unready_at=AT, flaps=3), AT + SECOND),
        (one(A, unready_at=AT, flaps=0), AT + WEB.health.start),
    ],
)  # fmt: skip
def test_every_state_of_an_instance_wakes(instance: Instance, at: int | None) -> None:
    assert wakes(state(instance)) == at


def test_what_has_to_stay_ready_wakes_when_it_has() -> None:
    soak = replace(ROLLOUT, step_at=AT, strategy=replace(ROLLOUT.strategy, min_healthy=7))
    assert wakes(state(new(B, ready_at=AT), rollout=soak)) == AT + 7
    assert wakes(state(one(A, ready_at=AT), rollout=soak)) == AT + soak.strategy.progress
    assert wakes(state(one(A, ready_at=AT, drained_at=AT), rollout=soak)) == AT + WEB.drain
    back = replace(soak, phase=Phase.REVERTING)
    assert wakes(state(new(B, ready_at=AT), rollout=back)) == AT + soak.strategy.progress
    assert wakes(state(new(B, ready_at=AT))) is None


def test_what_survives_a_kill_is_killed_ever_more_slowly() -> None:
    assert timers.kill_again_at(0, SECOND) == 6 * SECOND
    assert timers.kill_again_at(0, 7 * SECOND) == 14 * SECOND
    assert timers.kill_again_at(0, 11 * MINUTE) == 21 * MINUTE


def test_how_long_an_instance_may_hang() -> None:
    env = state()
    assert given_up_at(env, one(A, launched_at=5)) == 5 + WEB.health.start
    assert given_up_at(env, one(A, launched_at=5, unready_at=9)) == 9 + WEB.health.start
    assert given_up_at(env, one(A, ready_at=5)) is None


# Traffic


def test_the_entry_of_a_release() -> None:
    admin, gate = replace(WEB, name="admin"), replace(WEB, name="gate")
    assert entry(release("a", WORKER, admin, gate)) == admin
    assert entry(release("a", admin, WEB, gate)) == WEB
    assert entry(release("a", replace(WORKER, name="web"), gate)) == gate
    assert entry(release("a", WORKER)) is None


def test_shares_as_weights() -> None:
    assert scaled({}) == {}
    assert scaled({A: 1, B: 1}) == {A: 256, B: 256}
    assert scaled({A: 10_000, B: 1}) == {A: 256, B: 1}
    assert scaled({A: 3, B: 1}) == {A: 255, B: 85}
    assert scaled({A: 3, B: 2}) == {A: 255, B: 170}
    assert scaled({A: 512, B: 1}) == {A: 256, B: 1}
    assert scaled({A: 1024, B: 6}) == {A: 171, B: 1}, "256 to 2 is further from what was asked for"
