"""Automatic scaling on loads that are known to the request."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import autoscale
from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.scaling import UP, Pace, Scaling
from stelae.domain.state import EnvironmentState
from stelae.domain.traffic import Traffic
from stelae.domain.units import MINUTE, SECOND
from tests.unit.core.fixtures import SHOP, V1, V2, environment
from tests.unit.core.loaded import Loaded

TO_TWELVE = Scaling(least=1, most=12, target_rps=200)
QUICK = replace(TO_TWELVE, down=Pace(window=2 * SECOND))


def test_a_load_that_jumps_from_nothing_is_met_within_a_second_and_a_half() -> None:
    site = Loaded(scaling=replace(TO_TWELVE, most=20))
    site.run(30)
    assert site.changes == []
    site.rps = 4_000
    site.run(1.5, each=0.25)
    assert site.count == 20
    assert len(site.changes) <= 4


def test_one_look_alone_raises_nothing() -> None:
    """Many requests at once, and then none: that is no load."""
    site = Loaded(scaling=TO_TWELVE)
    site.run(12)
    site.came += 260
    site.run(12)
    assert site.changes == []
    site.came += 260
    site.run(0.5)
    site.came += 260
    site.run(0.5)
    assert site.counts == [3]


def test_looks_that_follow_each_other_closely_are_not_all_kept() -> None:
    site = Loaded(scaling=TO_TWELVE, rps=100)
    site.run(20, each=0.01)
    assert len(site.memory.samples.kept) <= 210
    assert site.changes == []


def test_the_reason_says_what_was_measured_and_the_target() -> None:
    site = Loaded(scaling=TO_TWELVE)
    site.run(12)
    site.rps = 412
    site.run(12)
    assert site.counts[-1] == 3
    assert site.changes[-1][1].reason == "412 requests a second, target 200 each"


def test_what_is_within_the_tolerance_changes_nothing() -> None:
    for rps in (185.0, 219.0):
        site = Loaded(scaling=QUICK, rps=rps)
        site.run(60)
        assert site.changes == []
    site = Loaded(scaling=QUICK, rps=236)  # above 10 percent, and no chance over ten seconds
    site.run(60)
    assert site.counts == [2]


def test_down_only_after_the_window_and_by_no_more_than_half_a_minute() -> None:
    site = Loaded(scaling=TO_TWELVE, wanted=12, rps=10)
    site.run(299)
    assert site.changes == []
    site.run(240)
    assert site.counts == [6, 3, 2, 1]
    times = [at for at, _ in site.changes]
    assert times[0] >= 300
    assert all(later - before >= 60 for before, later in itertools.pairwise(times))


def test_the_most_that_was_asked_for_in_the_window_counts() -> None:
    site = Loaded(scaling=TO_TWELVE, wanted=6, rps=1_200)
    site.run(60)
    site.rps = 0
    site.run(295)
    site.rps = 790
    site.run(15)
    site.rps = 0
    site.run(200)
    assert site.counts[-1] == min(site.counts) == 4


def test_nothing_is_lowered_below_what_has_just_come() -> None:
    """The mean of the window is low still, and the load rises."""
    site = Loaded(scaling=replace(TO_TWELVE, down=Pace(window=4 * SECOND)), wanted=5, rps=100)
    site.run(7)
    site.rps = 950
    site.run(20)
    assert site.changes == []


def test_up_no_faster_than_the_pace() -> None:
    site = Loaded(scaling=replace(TO_TWELVE, up=Pace(share=100, count=2, period=10 * SECOND)), rps=0)
    site.run(12)
    site.rps = 10_000
    site.run(25, each=0.25)
    assert site.counts == [3, 6, 12]
    times = [at for at, _ in site.changes]
    assert all(later - before >= 10 for before, later in itertools.pairwise(times))


def test_up_only_when_the_whole_upper_window_asks_for_it() -> None:
    site = Loaded(scaling=replace(TO_TWELVE, up=replace(UP, window=20 * SECOND)))
    site.run(30)
    site.rps = 1_000
    site.run(19)
    assert site.changes == []
    site.rps = 0
    site.run(30)
    site.rps = 1_000
    site.run(25)
    assert site.count == 5


def test_a_rollout_may_raise_and_lowers_nothing() -> None:
    site = Loaded(scaling=QUICK, wanted=6, rps=10)
    site.rolls(True)
    site.run(60)
    assert site.changes == []
    site.rps = 2_000
    site.run(5)
    assert site.count == 10
    site.rps = 10
    site.run(60)
    assert site.count == 10
    site.rolls(False)
    site.run(5)
    assert site.count == 1


def test_what_a_person_sets_holds_for_a_whole_window_and_gives_way_to_load_at_once() -> None:
    site = Loaded(scaling=TO_TWELVE, rps=10)
    site.run(400)
    site.set(8)
    site.run(299)
    assert site.changes == []
    site.run(5)
    assert site.counts == [4]
    site.set(1)
    site.rps = 1_000
    site.run(2)
    assert site.count == 5


def _uncounted(seen: Observation) -> Observation:
    return replace(seen, traffic={})


def _incomplete(seen: Observation) -> Observation:
    return replace(seen, complete=False)


def _older(seen: Observation) -> Observation:
    return replace(seen, applied=-1)


@pytest.mark.parametrize("wrong", [_uncounted, _incomplete, _older])
def test_what_is_not_known_lowers_and_raises_nothing(wrong: Any) -> None:
    site = Loaded(scaling=replace(TO_TWELVE, down=Pace(window=20 * SECOND)), wanted=4, rps=800)
    site.run(30)
    site.run(60, seen=wrong)
    assert site.changes == []
    site.run(30)
    assert site.changes == []
    site.run(2, each=0.25, seen=lambda seen: _uncounted(seen) if site.now % SECOND else seen)
    site.run(30)
    assert site.changes == []


def test_counts_that_never_come_lower_nothing() -> None:
    site = Loaded(scaling=QUICK, wanted=4, rps=800, counted=False)
    site.run(60)
    assert site.changes == []


def test_a_router_that_counts_anew_is_no_fall_and_no_jump() -> None:
    site = Loaded(scaling=QUICK, wanted=4, rps=800)
    site.run(30)
    before = site.came
    site.came = 0
    site.run(30)
    site.came += before
    site.run(1)
    assert site.changes == [] or site.changes[0][1].count == 12  # many more at once is what was really counted
    assert before


def test_looks_that_are_far_apart_say_nothing_of_the_time_between() -> None:
    site = Loaded(scaling=QUICK, wanted=4, rps=800)
    site.run(30)
    site.rps = 0
    site.pass_time(3600)
    site.look()
    assert site.changes == []
    site.run(1)
    assert site.changes == []
    site.run(10)
    assert site.count == 1


def test_a_clock_that_is_set_back_begins_anew() -> None:
    site = Loaded(scaling=QUICK, wanted=4, rps=800)
    site.run(30)
    site.now -= 3600 * SECOND
    site.look()
    site.run(30)
    assert site.changes == []


def test_an_old_look_decides_nothing() -> None:
    site = Loaded(scaling=QUICK, wanted=4, rps=10_000)
    site.run(2)
    assert site.count == 12
    memory = autoscale.remembered(site.memory, site._known(), site._seen(), counted=True)
    lower = replace(site.env, wanted={**site.env.wanted, "web": 4})
    assert autoscale.decided(memory, lower, site.now) == ()  # somebody set it meanwhile
    assert autoscale.decided(memory, site._known(), site.now + 6 * SECOND) == ()


def test_instances_that_are_not_ready_count_as_if_they_did_what_they_are_for() -> None:
    """Where the half cannot start the load of the others is no reason to end more than is idle."""
    site = Loaded(scaling=QUICK, wanted=12, rps=400)
    half = {f"web-{number}" for number in range(6)}

    def broken(seen: Observation) -> Observation:
        left = {name: view for name, view in seen.instances.items() if name in half}
        return replace(seen, instances=left, table=dict.fromkeys(left, 256))

    site.run(5, seen=broken)
    assert site.counts[0] == 8


def test_nothing_is_lowered_while_no_instance_is_ready() -> None:
    site = Loaded(scaling=QUICK, wanted=6, rps=0)
    site.run(60, seen=lambda seen: replace(seen, instances={}, table={}))
    assert site.changes == []


def test_requests_that_wait_count_though_none_is_over() -> None:
    """One instance that can do no more than it is for: only what is open shows the load."""
    site = Loaded(scaling=TO_TWELVE, rps=200)
    site.run(12)
    waiting = 0

    def queue(seen: Observation) -> Observation:
        nonlocal waiting
        waiting += 300  # half a second of 600 requests a second that nobody answers
        view = Seen(id=next(iter(seen.instances)), phase=Phase.READY, connections=waiting)
        return replace(seen, instances={**seen.instances, view.id: view})

    site.run(1, seen=queue)
    assert site.count >= 4


def test_processor_time_by_the_limit_or_a_core() -> None:
    site = Loaded(scaling=Scaling(least=1, most=10, target_cpu=50), process="worker", cores=2.0, wanted=2)
    site.run(11)
    assert site.counts == [4]
    assert site.changes[0][1].reason == "100 % of the processor each, target 50 %"
    process = V1.process("worker")
    assert process is not None
    half = replace(V1, processes=(replace(process, cpu=500),))
    site = Loaded(scaling=Scaling(least=1, most=10, target_cpu=50), process="worker", cores=1.0, wanted=2)
    site.env = replace(site.env, releases={V1.id: half, V2.id: V2})
    site.run(11)
    assert site.counts == [4]


def test_what_an_instance_uses_to_start_is_no_load() -> None:
    scaling = Scaling(least=1, most=10, target_cpu=50, down=Pace(window=2 * SECOND))
    site = Loaded(scaling=scaling, process="worker", cores=0.4, slow=1.0)
    site.run(20)
    site.set(3)
    for name in site.born:
        site.used[name] = site.used.get(name, 0.0) + 30 * SECOND * (name != "worker-0")
    site.run(20)
    assert all(count <= 3 for count in site.counts)


def test_without_processor_times_nothing_is_lowered() -> None:
    scaling = Scaling(least=1, most=10, target_cpu=50, target_rps=100, down=Pace(window=2 * SECOND))
    site = Loaded(scaling=scaling, wanted=5, rps=10)

    def blind(seen: Observation) -> Observation:
        return replace(seen, instances={name: replace(view, cpu=None) for name, view in seen.instances.items()})

    site.run(30, seen=blind)
    assert site.changes == []
    site.run(30)
    assert site.count == 1


def test_of_two_targets_the_larger_count_holds() -> None:
    scaling = Scaling(least=1, most=10, target_cpu=50, target_rps=100, down=Pace(window=2 * SECOND))
    site = Loaded(scaling=scaling, wanted=4, rps=100, cores=2.0)
    site.run(30)
    assert site.count == 4
    site.rps = 700
    site.run(15)
    assert site.count == 7


def test_requests_are_nothing_to_a_process_that_gets_none() -> None:
    scaling = Scaling(least=1, most=10, target_rps=100, down=Pace(window=2 * SECOND))
    site = Loaded(scaling=scaling, process="worker", wanted=3, rps=5_000)
    site.run(30)
    assert site.changes == []


def test_both_releases_requests_count_and_one_that_is_new_begins_at_nothing() -> None:
    site = Loaded(scaling=QUICK, wanted=2, rps=400)
    site.run(12)
    new = 0

    def shared(seen: Observation) -> Observation:
        nonlocal new
        new += 200
        return replace(seen, traffic={**seen.traffic, V2.id: Traffic(requests=new)})

    site.run(3, seen=shared)
    assert site.count == 4


def test_nothing_is_remembered_of_what_is_down_or_not_scaled() -> None:
    site = Loaded(scaling=QUICK, wanted=2, rps=400)
    site.run(5)
    assert site.memory.courses
    for env in (replace(site.env, down=True), replace(site.env, stable=None), replace(site.env, config=None)):
        assert autoscale.remembered(site.memory, env, site._seen(), counted=True) == autoscale.Memory()
        assert autoscale.decided(site.memory, env, site.now) == ()


def test_without_more_nothing_is_raised() -> None:
    site = Loaded(scaling=QUICK, wanted=2, rps=4_000)
    memory = autoscale.Memory()
    for _ in range(3):
        site.pass_time(0.5)
        memory = autoscale.remembered(memory, site._known(), site._seen(), counted=True)
    assert autoscale.decided(memory, site._known(), site.now, more=False) == ()
    assert autoscale.decided(memory, site._known(), site.now)


def test_it_is_busy_while_the_load_is_more_than_half_of_what_is_wanted_or_just_after_a_change() -> None:
    site = Loaded(scaling=replace(TO_TWELVE, down=Pace(window=MINUTE)), wanted=2, rps=10)
    site.run(12)
    assert not autoscale.busy(site.memory, site.env)
    site.rps = 300
    site.run(3)
    assert autoscale.busy(site.memory, site.env)
    site.rps = 10
    site.run(50)
    assert site.counts == []
    assert not autoscale.busy(site.memory, site.env)
    while not site.counts:
        site.run(0.5)
    assert autoscale.busy(site.memory, site.env)
    site.run(10)
    assert not autoscale.busy(site.memory, site.env)


def _applied(env: EnvironmentState, count: int, scaling: Scaling | None) -> EnvironmentState:
    config = replace(
        environment(),
        processes={"web": scaling.least if scaling else count},
        scaling={"web": scaling} if scaling else {},
    )
    return evolve(env, ev.EnvironmentApplied(environment=config), 1)


def test_limits_that_are_applied_count_at_once() -> None:
    env = _applied(EnvironmentState(id=SHOP), 0, replace(TO_TWELVE, least=3))
    assert env.wanted == {"web": 3}
    env = evolve(env, ev.Scaled(process="web", count=9), 2)
    assert _applied(env, 0, replace(TO_TWELVE, least=3, target_rps=50)).wanted == {"web": 9}
    assert _applied(env, 0, replace(TO_TWELVE, most=5)).wanted == {"web": 5}
    assert _applied(env, 0, replace(TO_TWELVE, least=10)).wanted == {"web": 10}


def test_a_number_takes_the_place_of_limits_and_the_other_way_round() -> None:
    env = _applied(EnvironmentState(id=SHOP), 0, replace(TO_TWELVE, least=3))
    env = evolve(env, ev.Scaled(process="web", count=9), 2)
    env = _applied(env, 3, None)
    assert env.wanted == {"web": 3}
    env = evolve(env, ev.Scaled(process="web", count=5), 3)
    assert _applied(env, 3, None).wanted == {"web": 5}
    assert _applied(env, 0, replace(TO_TWELVE, least=2)).wanted == {"web": 5}
