"""The next actions on a platform that keeps sets, one rule at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import resume, sets
from stelae.core.decide import decide
from stelae.core.evolve import evolve
from stelae.core.native import of_key, set_key, told
from stelae.core.recovery import restored
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId, Route, RouteKind
from stelae.domain.drift import Answer, Drift, Drifted, DriftPolicy, DriftState, Storm
from stelae.domain.event import Event
from stelae.domain.observation import Exit, Observation, Phase, Seen, SetKey
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Instance, Outcome
from stelae.domain.units import SECOND
from tests.unit.core.fixtures import ROLLOUT, V1, V2, one, release, state
from tests.unit.core.sets_fixtures import GATEWAY, on_cluster, stood

OLD, NEW = (V1.id, "web"), (V2.id, "web")
GONE = release("v0").id


def native(*instances: Instance, exact: bool = True, **more: Any) -> EnvironmentState:
    """An environment on a cluster, in which V1 is stable."""
    found = state(*instances, **more)
    config = on_cluster(exact=exact).env.config
    return replace(found, config=config)


def pods(key: SetKey, count: int, first: int = 1, **more: Any) -> list[Instance]:
    """Instances of a set, that have been ready since 100."""
    names = (InstanceId(f"{key[1]}-{key[0][2:5]}-{number}") for number in range(first, first + count))
    return [one(name, **{"release": key[0], "process": key[1], "ready_at": 100, **more}) for name in names]


def observed(
    env: EnvironmentState, told: Mapping[SetKey, int], weights: Mapping[ReleaseId, int] | None = None,
    routed: Iterable[Instance] = (), **phases: Phase,
) -> Observation:  # fmt: skip
    """What is seen of *env*: all of its instances as they are recorded."""
    seen = {
        name: Seen(
            id=name, release=instance.release, process=instance.process, phase=phases.get(
                name.replace("-", "_"), Phase.READY if instance.ready_at is not None else Phase.STARTING
            ), ending=instance.stopped_at is not None,
        )
        for name, instance in env.instances.items()
    }  # fmt: skip
    return Observation(
        as_of=1_000 * SECOND, applied=env.applied, instances=seen, sets=told, weights=weights,
        table={instance.id: 256 for instance in routed},
    )  # fmt: skip


def hold(*held: tuple[SetKey, int], floor: int = 0, **more: Any) -> Allocation:
    """An allocation of so many serving instances of each set."""
    holdings = tuple(Holding(release=key[0], process=key[1], serving=count) for key, count in held)
    return Allocation(holdings=holdings, floor={"web": floor} if floor else {}, **more)


def acts(found: Iterable[Action]) -> list[tuple[Any, ...]]:
    """What is done, in short."""
    return [
        ("traffic", dict(act.weights)) if act.verb is Verb.SET_TRAFFIC
        else (act.verb.value, act.release, act.process, *((act.count,) if act.verb is Verb.ENSURE_SET else ()))
        for act in found
    ]  # fmt: skip


def of_sets(found: Iterable[Action]) -> list[tuple[Any, ...]]:
    """What is done to sets, in short."""
    return [act for act in acts(found) if act[0] != "traffic"]


def of_traffic(found: Iterable[Action]) -> list[dict[ReleaseId, int]]:
    """How the requests are shared out."""
    return [dict(act.weights) for act in found if act.verb is Verb.SET_TRAFFIC]


def settled(env: EnvironmentState, **told: int) -> EnvironmentState:
    """*env* with what its sets were told: ``old`` and ``new``."""
    names = {"old": set_key(*OLD), "new": set_key(*NEW)}
    return replace(env, sets={names[name]: count for name, count in told.items()})


def test_a_set_is_made_and_gets_requests_when_it_is_ready() -> None:
    env = native()
    found = sets.actions(hold((OLD, 2), hosts=("a.example",)), env, observed(env, {}))
    assert acts(found) == [("ensure-set", *OLD, 2), ("traffic", {})]
    assert [act.number for act in found] == [8, 9]
    assert found[1].hosts == ("a.example",)
    env = settled(native(*pods(OLD, 2), hosts=("a.example",)), old=2)
    found = sets.actions(hold((OLD, 2), hosts=("a.example",)), env, observed(env, {OLD: 2}, {}))
    assert acts(found) == [("traffic", {V1.id: 1})]
    env = replace(env, weights={V1.id: 1})
    assert not sets.actions(hold((OLD, 2), hosts=("a.example",)), env, observed(env, {OLD: 2}, {V1.id: 1}))


def test_a_set_that_somebody_changed_is_made_anew_unless_that_is_only_reported_or_in_a_storm() -> None:
    env = replace(settled(native(*pods(OLD, 2)), old=2), weights={V1.id: 1})
    seen = observed(env, {OLD: 2}, {V1.id: 1}, env.instances.values())
    edited = replace(seen, edited=frozenset({OLD}))
    assert not sets.actions(hold((OLD, 2), floor=2), env, seen)
    assert acts(sets.actions(hold((OLD, 2), floor=2), env, edited)) == [("ensure-set", *OLD, 2)]
    assert env.config is not None
    told_only = replace(env, config=replace(env.config, drift=DriftPolicy(answer=Answer.REPORT)))
    assert not sets.actions(hold((OLD, 2), floor=2), told_only, edited)
    stormy = replace(env, drift=DriftState(storm=Storm(at=1, found=2, of=2)))
    assert not sets.actions(hold((OLD, 2), floor=2), stormy, edited)


def test_what_only_looks_like_an_instance_goes_when_there_is_enough_without_it() -> None:
    env = replace(settled(native(*pods(OLD, 2)), old=2), weights={V1.id: 1})
    stray = frozenset({InstanceId("bare")})
    seen = replace(observed(env, {OLD: 2}, {V1.id: 1}, env.instances.values()), strays=stray)
    (found,) = sets.actions(hold((OLD, 2), floor=2), env, seen)
    assert (found.verb, found.instance) == (Verb.REMOVE, "bare")
    assert not sets.actions(hold((OLD, 2), floor=2), replace(env, pending={str(found.number): found}), seen)
    unready = {name.replace("-", "_"): Phase.UNREADY for name in list(env.instances)[:1]}
    seen = replace(observed(env, {OLD: 2}, {V1.id: 1}, env.instances.values(), **unready), strays=stray)
    assert Verb.REMOVE not in {act.verb for act in sets.actions(hold((OLD, 2), floor=2), env, seen)}


@pytest.mark.parametrize("unknown", [{"complete": False}, {"applied": 5}])
def test_nothing_is_done_on_what_is_not_known(unknown: dict[str, Any]) -> None:
    env = settled(native(*pods(OLD, 2)), old=2)
    seen = observed(env, {OLD: 2}, {V1.id: 1}, pods(OLD, 2))
    assert sets.actions(hold(), env, seen)
    assert not sets.actions(hold(), env, replace(seen, **unknown))


def test_what_failed_waits_for_its_back_off() -> None:
    env = native()
    act = Action(verb=Verb.ENSURE_SET, release=V1.id, process="web", count=2)
    for number in (8, 9, 10):
        env = evolve(env, ev.ActionIntended(action=replace(act, number=number)), 999 * SECOND)
        env = evolve(env, ev.ActionDone(number=number, error="no"), 999 * SECOND)
    assert of_sets(sets.actions(hold((OLD, 2)), env, observed(env, {}))) == []
    later = replace(observed(env, {}), as_of=1_002 * SECOND)
    assert of_sets(sets.actions(hold((OLD, 2)), env, later)) == [("ensure-set", *OLD, 2)]
    env = evolve(env, ev.ActionIntended(action=replace(act, number=11)), 1_100 * SECOND)
    env = evolve(env, ev.ActionDone(number=11), 1_100 * SECOND)
    assert env.backoff != {}, "it was so before, and did not last"
    env = evolve(env, ev.ActionIntended(action=replace(act, number=12, count=3)), 1_100 * SECOND)
    env = evolve(env, ev.ActionDone(number=12), 1_100 * SECOND)
    assert env.backoff == {}
    assert env.sets == {set_key(*OLD): 3}


def test_a_set_gets_smaller_only_above_the_floor() -> None:
    old, new = pods(OLD, 4), pods(NEW, 2)
    env = settled(native(*old, *new, weights={V1.id: 2, V2.id: 1}), old=4, new=2)
    seen = observed(env, {OLD: 4, NEW: 2}, {V1.id: 2, V2.id: 1}, [*old, *new])
    found = sets.actions(hold((OLD, 1), (NEW, 2), floor=4), env, seen)
    assert of_sets(found) == [("ensure-set", *OLD, 2)], "four stay"
    unready = observed(
        env, {OLD: 4, NEW: 2}, {V1.id: 2, V2.id: 1}, [*old, new[0]], **{new[1].id.replace("-", "_"): Phase.UNREADY}
    )
    assert of_sets(sets.actions(hold((OLD, 1), (NEW, 2), floor=4), env, unready)) == [("ensure-set", *OLD, 3)]
    less = sets.actions(hold((OLD, 1), (NEW, 2), floor=6), env, seen)
    assert of_sets(less) == []


def test_what_a_set_was_told_counts_and_not_what_is_still_there_of_it() -> None:
    """The cluster has not ended yet what it was told to end."""
    old, new = pods(OLD, 4), pods(NEW, 2)
    env = settled(native(*old, *new, weights={V1.id: 1, V2.id: 1}), old=2, new=2)
    seen = observed(env, {OLD: 2, NEW: 2}, {V1.id: 1, V2.id: 1}, [*old, *new])
    assert of_sets(sets.actions(hold((OLD, 1), (NEW, 2), floor=4), env, seen)) == []
    assert of_traffic(sets.actions(hold((NEW, 2), floor=4), env, seen)) == [], "two of the old ones have to stay"
    assert of_traffic(sets.actions(hold((NEW, 2), floor=2), env, seen)) == [{V2.id: 1}]
    assert of_traffic(sets.actions(hold((NEW, 2), floor=6), env, seen)) == [], "no more than two of them count"
    assert of_sets(sets.actions(hold((OLD, 2), (NEW, 1), floor=4), env, seen)) == []
    assert of_traffic(sets.actions(hold((OLD, 2), floor=4), env, seen)) == [], "two old ones alone are too few"


def test_two_sets_that_get_smaller_together_leave_enough() -> None:
    old, new = pods(OLD, 2), pods(NEW, 2)
    env = settled(native(*old, *new, weights={V1.id: 1, V2.id: 1}), old=2, new=2)
    seen = observed(env, {OLD: 2, NEW: 2}, {V1.id: 1, V2.id: 1}, [*old, *new])
    assert len(of_sets(sets.actions(hold((OLD, 1), (NEW, 1), floor=3), env, seen))) == 1
    assert len(of_sets(sets.actions(hold((OLD, 1), (NEW, 1), floor=2), env, seen))) == 2


def test_what_leaves_the_traffic_is_no_capacity_for_what_ends_with_it() -> None:
    """Requests are taken from one release, and instances of another, by the same look."""
    other = (GONE, "web")
    three = [*pods(OLD, 2), *pods(NEW, 2), *pods(other, 2)]
    env = native(*three, weights={V1.id: 1, V2.id: 1, GONE: 1})
    env = replace(settled(env, old=2, new=2), releases={**env.releases, GONE: release("v0")})
    env = replace(env, sets={**env.sets, set_key(*other): 2})
    seen = observed(env, {OLD: 2, NEW: 2, other: 2}, {V1.id: 1, V2.id: 1, GONE: 1}, three)
    found = sets.actions(hold((OLD, 1), (NEW, 2), floor=4), env, seen)
    assert acts(found) == [("traffic", {V1.id: 1, V2.id: 2})]


def test_what_gets_requests_from_now_on_stays_as_far_as_the_floor_needs_it() -> None:
    """All that got requests is lost: the requests go to what is there, and that does not get smaller with the same
    look."""
    old, new = pods(OLD, 3), pods(NEW, 3, ready_at=None)
    env = settled(native(*old, *new, weights={V2.id: 1}), old=3, new=3)
    seen = observed(env, {OLD: 3, NEW: 3}, {V2.id: 1})
    found = sets.actions(hold((OLD, 1), (NEW, 3), floor=3), env, seen)
    assert acts(found) == [("traffic", {V1.id: 1})]


def test_a_release_that_is_to_get_nothing_loses_its_requests_first() -> None:
    old, new = pods(OLD, 2), pods(NEW, 2)
    env = settled(native(*old, *new, weights={V1.id: 1}), old=2, new=2)
    seen = observed(env, {OLD: 2, NEW: 2}, {V1.id: 1}, old)
    found = sets.actions(hold((NEW, 2), floor=2), env, seen)
    assert acts(found) == [("traffic", {V2.id: 1})]
    env = replace(env, weights={V2.id: 1})
    still = observed(env, {OLD: 2, NEW: 2}, {V2.id: 1}, [*old, *new])
    assert acts(sets.actions(hold((NEW, 2), floor=2), env, still)) == [], "the cluster has not done it yet"
    gone = observed(env, {OLD: 2, NEW: 2}, {V2.id: 1}, new)
    assert acts(sets.actions(hold((NEW, 2), floor=2), env, gone)) == [("ensure-set", *OLD, 0)]


def test_a_worker_needs_no_requests_to_count() -> None:
    worker, other = (V1.id, "worker"), (V2.id, "worker")
    env = native(*pods(worker, 2))
    env = replace(env, sets={set_key(*worker): 2})
    target = Allocation(holdings=(Holding(release=V2.id, process="worker", serving=1),), floor={"worker": 1})
    found = of_sets(sets.actions(target, env, observed(env, {worker: 2}, {})))
    assert found == [("ensure-set", *other, 1), ("ensure-set", *worker, 1)]


def test_no_more_instances_than_there_may_be() -> None:
    old = pods(OLD, 3)
    ending = replace(old[2], stopped_at=200)
    env = settled(native(*old[:2], ending, weights={V1.id: 1}), old=2)
    seen = observed(env, {OLD: 2}, {V1.id: 1}, old[:2])
    target = hold((OLD, 2), (NEW, 3), most={"web": 4})
    assert of_sets(sets.actions(target, env, seen)) == [("ensure-set", *NEW, 1)], "one ends, and is there yet"
    assert of_sets(sets.actions(replace(target, most={}), env, seen)) == [("ensure-set", *NEW, 3)]
    more = observed(env, {OLD: 3}, {V1.id: 1}, old[:2])
    assert of_sets(sets.actions(target, env, more)) == [("ensure-set", *OLD, 2)], "one is to come"
    empty = native()
    both = of_sets(sets.actions(hold((OLD, 2), (NEW, 2), most={"web": 3}), empty, observed(empty, {})))
    assert both == [("ensure-set", *OLD, 2), ("ensure-set", *NEW, 1)]


@pytest.mark.parametrize(
    ("weights", "ready", "found"),
    [
        ({V1.id: 9_500, V2.id: 500}, 2, {V1.id: 9_500, V2.id: 500}),
        ({V1.id: 9_500, V2.id: 500}, 1, {V1.id: 9_500, V2.id: 250}),
        ({V1.id: 9_500, V2.id: 500}, 0, {V1.id: 1}),
        ({V1.id: 10_000, V2.id: 0}, 2, {V1.id: 1}),
        ({V1.id: 0, V2.id: 10_000}, 2, {V2.id: 1}),
        ({}, 2, {V1.id: 2, V2.id: 1}),
        ({}, 1, {V1.id: 4, V2.id: 1}),
    ],
)
def test_exact_shares(weights: dict[ReleaseId, int], ready: int, found: dict[ReleaseId, int]) -> None:
    """A candidate gets as much of its weight as is ready of it; without weights each instance gets as much."""
    new = [*pods(NEW, ready), *pods(NEW, 2 - ready, first=3, ready_at=None)]
    env = settled(native(*pods(OLD, 4), *new, rollout=ROLLOUT), old=4, new=2)
    target = hold((OLD, 4), (NEW, 2), weights=weights)
    assert of_traffic(sets.actions(target, env, observed(env, {OLD: 4, NEW: 2}))) == [found]


def test_a_route_leads_to_a_release_without_a_weight_once_it_is_ready() -> None:
    route = Route(kind=RouteKind.HEADER, name="x-canary", release=V2.id)
    target = hold((OLD, 2), (NEW, 1), weights={V1.id: 10_000, V2.id: 0}, routes=(route,))
    env = settled(native(*pods(OLD, 2), *pods(NEW, 1)), old=2, new=1)
    [found] = [act for act in sets.actions(target, env, observed(env, {OLD: 2, NEW: 1})) if act.weights]
    assert (dict(found.weights), found.routes) == ({V1.id: 1, V2.id: 0}, (route,))
    env = settled(native(*pods(OLD, 2), *pods(NEW, 1, ready_at=None)), old=2, new=1)
    assert of_traffic(sets.actions(target, env, observed(env, {OLD: 2, NEW: 1}))) == [{V1.id: 1}]


def test_others_keep_requests_while_too_few_are_ready() -> None:
    old, new = pods(OLD, 4), pods(NEW, 1)
    env = settled(native(*old, *new, weights={V1.id: 1}), old=4, new=1)
    seen = observed(env, {OLD: 4, NEW: 1}, {V1.id: 1}, old)
    assert of_traffic(sets.actions(hold((NEW, 4), floor=3), env, seen)) == [{V1.id: 2, V2.id: 1}]
    assert of_traffic(sets.actions(hold((NEW, 4), floor=1), env, seen)) == [{V2.id: 1}]
    by_ratio = replace(env, config=on_cluster(exact=False).env.config)
    assert of_traffic(sets.actions(hold((NEW, 4), floor=3), by_ratio, seen)) == [{V1.id: 1, V2.id: 1}]


def test_what_is_not_ready_for_a_moment_keeps_its_place() -> None:
    old = pods(OLD, 2, ready_at=None)
    env = settled(native(*old, weights={V1.id: 1}), old=2)
    assert not sets.actions(hold((OLD, 2)), env, observed(env, {OLD: 2}, {V1.id: 1}))
    assert of_traffic(sets.actions(hold((NEW, 2)), env, observed(env, {OLD: 2}, {V1.id: 1}))) == [{}]


def test_by_ratio_one_release_serves_until_nothing_else_is_there() -> None:
    other = (GONE, "web")
    there = [*pods(OLD, 4), *pods(NEW, 1), *pods(other, 1)]
    env = native(*there, exact=False, weights={V1.id: 1})
    env = replace(settled(env, old=4, new=1), releases={**env.releases, GONE: release("v0")})
    env = replace(env, sets={**env.sets, set_key(*other): 1})
    told = {OLD: 4, NEW: 1, other: 1}
    target = hold((OLD, 4), (NEW, 1), floor=4)
    alone = observed(env, told, {V1.id: 1}, pods(OLD, 4))
    assert acts(sets.actions(target, env, alone)) == [("ensure-set", *other, 0)]
    wide = observed(env, told, {V1.id: 1, GONE: 1}, there)
    assert acts(sets.actions(target, env, wide)) == [("traffic", {V1.id: 1})]
    ended = replace(env, instances={i.id: i for i in there[:5]}, sets={k: n for k, n in env.sets.items() if n != 1})
    both = observed(ended, {OLD: 4, NEW: 1}, {V1.id: 1}, pods(OLD, 4))
    assert ("traffic", {V1.id: 1, V2.id: 1}) in acts(sets.actions(target, ended, both))


def test_by_ratio_where_no_release_is_enough_alone_all_serve_and_what_is_too_much_goes() -> None:
    other = (GONE, "web")
    there = [*pods(OLD, 2), *pods(NEW, 2), *pods(other, 2)]
    env = native(*there, exact=False, weights={V1.id: 1, GONE: 1})
    env = replace(settled(env, old=2, new=2), releases={**env.releases, GONE: release("v0")})
    env = replace(env, sets={**env.sets, set_key(*other): 2})
    seen = observed(env, {OLD: 2, NEW: 2, other: 2}, {V1.id: 1, GONE: 1}, there)
    assert acts(sets.actions(hold((OLD, 2), (NEW, 2), floor=4), env, seen)) == [("ensure-set", *other, 0)]
    assert acts(sets.actions(hold((OLD, 2), (NEW, 2), floor=5), env, seen)) == [("ensure-set", *other, 1)]


def test_by_ratio_nothing_of_the_entry_is_warm_while_several_serve() -> None:
    warm = Holding(release=GONE, process="web", serving=0, warm=2)
    both = hold((OLD, 2), (NEW, 2))
    for exact, count in ((True, 2), (False, 0)):
        env = native(*pods(OLD, 2), *pods(NEW, 2), exact=exact, weights={V1.id: 1, V2.id: 1})
        env = replace(settled(env, old=2, new=2), releases={**env.releases, GONE: release("v0")})
        seen = observed(env, {OLD: 2, NEW: 2}, {V1.id: 1, V2.id: 1}, [*pods(OLD, 2), *pods(NEW, 2)])
        found = of_sets(sets.actions(replace(both, holdings=(*both.holdings, warm)), env, seen))
        assert found == ([("ensure-set", GONE, "web", 2)] if count else [])


def test_what_works_is_replaced_by_one_that_works() -> None:
    old = pods(OLD, 3)
    env = settled(native(*old, weights={V1.id: 1}), old=3)
    target = hold((OLD, 3), floor=3, condemned=frozenset({old[1].id}))
    seen = observed(env, {OLD: 3}, {V1.id: 1}, old)
    assert of_sets(sets.actions(target, env, seen)) == [("ensure-set", *OLD, 4)]
    four = pods(OLD, 4)
    env = settled(native(*four, weights={V1.id: 1}), old=4)
    [act] = sets.actions(target, env, observed(env, {OLD: 4}, {V1.id: 1}, four))
    assert (act.count, act.victims) == (3, (old[1].id,))


def test_what_does_not_work_goes_first() -> None:
    old = [*pods(OLD, 2), *pods(OLD, 1, first=3, ready_at=None)]
    env = settled(native(*old, weights={V1.id: 1}), old=3)
    target = hold((OLD, 3), floor=3, condemned=frozenset({old[2].id}))
    [act] = sets.actions(target, env, observed(env, {OLD: 3}, {V1.id: 1}, old[:2]))
    assert (act.count, act.victims) == (2, (old[2].id,))


def test_where_there_is_no_room_for_both_the_old_one_goes_first() -> None:
    old = pods(OLD, 2)
    env = settled(native(*old, weights={V1.id: 1}), old=2)
    target = hold((OLD, 2), floor=1, condemned=frozenset({old[0].id}), most={"web": 2})
    [act] = sets.actions(target, env, observed(env, {OLD: 2}, {V1.id: 1}, old))
    assert (act.count, act.victims) == (1, (old[0].id,))


def test_what_drifted_and_what_only_seems_ready_go_first_and_nothing_is_named_where_all_go() -> None:
    drifted = Drifted(drift=Drift.PROCESS, what="x", since=1)
    old = pods(OLD, 4)
    old[3] = replace(old[3], drift=(drifted,))
    old[2] = replace(old[2], ready_at=None, unready_at=999 * SECOND)  # it flaps
    env = settled(native(*old, weights={V1.id: 1}), old=4)
    seen = observed(env, {OLD: 4}, {V1.id: 1}, old, **{old[2].id.replace("-", "_"): Phase.READY})
    [act] = sets.actions(hold((OLD, 1)), env, seen)
    assert (act.count, act.victims) == (1, (old[3].id, old[2].id))
    idle = replace(seen, table={})
    [act] = [found for found in sets.actions(hold(), env, idle) if found.verb is Verb.ENSURE_SET]
    assert (act.count, act.victims) == (0, ())


def test_empty_sets_of_the_last_stable_releases_stay() -> None:
    many = [release(f"x{number}") for number in range(6)]
    told = {(item.id, "web"): 0 for item in many}
    env = native(
        *pods(OLD, 1), releases={item.id: item for item in (*many, V1)}, weights={V1.id: 1},
        stables=(*(item.id for item in many), V1.id), sets={set_key(*key): 0 for key in told} | {set_key(*OLD): 1},
    )  # fmt: skip
    seen = observed(env, {**told, OLD: 1}, {V1.id: 1}, pods(OLD, 1))
    removed = {act[1] for act in of_sets(sets.actions(hold((OLD, 1)), env, seen))}
    assert removed == {item.id for item in many[: 7 - sets.KEEP]}
    warm = replace(env, warm={many[0].id: 2_000 * SECOND})
    assert many[0].id not in {act[1] for act in of_sets(sets.actions(hold((OLD, 1)), warm, seen))}
    down = replace(env, down=True, instances={}, weights={}, sets=dict.fromkeys(env.sets, 0))
    found = sets.actions(Allocation(), down, observed(down, {**told, OLD: 0}, None))
    assert {act[1] for act in of_sets(found)} == {item.id for item in (*many, V1)}, "nothing stays of what is down"


def test_a_set_is_taken_away_only_when_nothing_of_it_is_there() -> None:
    old = replace(pods(OLD, 1)[0], exit=Exit(code=0, at=1))
    env = replace(settled(native(old), old=0), stables=(), stable=None)
    assert of_sets(sets.actions(hold(), env, observed(env, {OLD: 0}, {}))) == []
    unseen = replace(env, instances={})
    assert of_sets(sets.actions(hold(), unseen, observed(env, {OLD: 0}, {}))) == [], "the cluster has it yet"
    assert of_sets(sets.actions(hold(), unseen, observed(unseen, {OLD: 0}, {}))) == [("remove-set", *OLD)]


def test_what_somebody_else_did_to_sets() -> None:
    env = settled(native(*pods(OLD, 2), weights={V1.id: 1}), old=3)
    seen = observed(env, {OLD: 2}, {V1.id: 1}, pods(OLD, 2))
    assert of_sets(sets.actions(hold((OLD, 2)), env, seen)) == [("ensure-set", *OLD, 2)], "the record has to know"
    assert of_sets(sets.actions(hold((OLD, 3)), env, seen)) == [("ensure-set", *OLD, 3)]
    gone = settled(native(), new=2)
    assert of_sets(sets.actions(hold(), gone, observed(gone, {}, {}))) == [("remove-set", *NEW)]
    foreign = (ReleaseId("r-foreign"), "web")
    assert of_sets(sets.actions(hold(), native(), observed(native(), {foreign: 2}, {}))) == []


def test_an_environment_that_is_down_has_no_hosts() -> None:
    env = native(down=True, hosts=("a.example",))
    [act] = sets.actions(Allocation(hosts=("a.example",)), env, observed(env, {}, None))
    assert (act.verb, dict(act.weights), act.hosts) == (Verb.SET_TRAFFIC, {}, ())
    env = replace(env, hosts=())
    assert not sets.actions(Allocation(hosts=("a.example",)), env, observed(env, {}, None))


# What is seen


def events(env: EnvironmentState, seen: Observation) -> list[Event]:
    """What is recorded of what is seen."""
    found = decide(env, seen, seen.as_of).events
    return [event for event in found if event.kind.startswith("instance.")]


def view(key: SetKey, name: str, phase: Phase = Phase.READY, **more: Any) -> Seen:
    return Seen(id=InstanceId(name), release=key[0], process=key[1], phase=phase, node="n1", **more)


def seeing(env: EnvironmentState, *views: Seen, **more: Any) -> Observation:
    return Observation(as_of=1_000 * SECOND, applied=env.applied, instances={view.id: view for view in views}, **more)


def test_an_instance_is_recorded_when_it_is_seen() -> None:
    env = native()
    found = events(env, seeing(env, view(OLD, "web-a"), view(OLD, "web-b", Phase.STARTING)))
    assert found == [
        ev.InstanceSeen(instance=InstanceId("web-a"), release=V1.id, process="web", node="n1"),
        ev.InstanceReady(instance=InstanceId("web-a")),
        ev.InstanceSeen(instance=InstanceId("web-b"), release=V1.id, process="web", node="n1"),
    ]
    unknown = [view((ReleaseId("r-other"), "web"), "web-c"), view((V1.id, "cron"), "cron-d")]
    assert events(env, seeing(env, *unknown)) == []
    assert events(env, seeing(env, view(OLD, "web-a"), complete=False)) == [], "it may be gone"
    local = replace(env, config=state().config)
    assert events(local, seeing(local, view(OLD, "web-a"))) == [], "only where the platform launches by itself"


def test_a_restart_in_place_is_an_exit_and_a_launch() -> None:
    env = settled(native(*pods(OLD, 1)), old=1)
    name = next(iter(env.instances))
    exit_ = Exit(code=1, at=5)
    found = events(env, seeing(env, view(OLD, name, Phase.EXITED, exit=exit_), view(OLD, f"{name}.1")))
    assert [event.kind for event in found] == ["instance.exited", "instance.seen", "instance.ready"]
    for event in found:
        env = evolve(env, event, 1_000 * SECOND)
    assert env.backoff, "it ended unasked"
    assert events(env, seeing(env, view(OLD, name, Phase.EXITED, exit=exit_), view(OLD, f"{name}.1"))) == []
    assert events(env, seeing(env, view(OLD, f"{name}.1"))) == [ev.InstanceGone(instance=name)]
    assert evolve(env, ev.InstanceGone(instance=name), 0).instances.keys() == {f"{name}.1"}


def test_an_end_was_asked_for_as_far_as_a_set_has_too_many() -> None:
    env = settled(native(*pods(OLD, 3)), old=2)
    names = list(env.instances)
    views = [view(OLD, name, ending=name != names[0]) for name in names]
    found = events(env, seeing(env, *views))
    assert found == [
        ev.InstanceEnding(instance=names[1]), ev.InstanceEnding(instance=names[2], unasked=True),
    ]  # fmt: skip
    for event in found:
        env = evolve(env, event, 1_000 * SECOND)
    assert [env.instances[name].stopped_at for name in names] == [None, 1_000 * SECOND, 1_000 * SECOND]
    assert events(env, seeing(env, *views)) == []
    assert events(env, seeing(env, views[0])) == [ev.InstanceGone(instance=name) for name in names[1:]]


def test_what_vanishes_was_asked_to_or_is_lost() -> None:
    env = settled(native(*pods(OLD, 2)), old=1)
    names = list(env.instances)
    assert events(env, seeing(env)) == [
        ev.InstanceEnding(instance=names[0]), ev.InstanceGone(instance=names[0]),
        ev.InstanceLost(instance=names[1]),
    ]  # fmt: skip
    assert events(env, seeing(env, complete=False)) == []
    lost = evolve(env, ev.InstanceLost(instance=names[1]), 1)
    assert ev.InstanceGone(instance=names[1]) in events(lost, seeing(lost))


def test_what_a_set_was_told_is_the_least_of_what_it_may_have_been_told() -> None:
    act = Action(verb=Verb.ENSURE_SET, number=8, release=V1.id, process="web", count=1)
    env = settled(native(), old=3)
    assert told(env, set_key(*OLD)) == 3
    assert told(replace(env, pending={"8": act}), set_key(*OLD)) == 1
    assert told(replace(env, pending={"8": replace(act, count=5)}), set_key(*OLD)) == 3
    assert told(replace(env, pending={"8": replace(act, process="worker")}), set_key(*OLD)) == 3
    assert told(replace(env, sets={}), set_key(*OLD)) == 0
    assert of_key(set_key(*OLD)) == OLD


def test_what_was_never_ready_is_left_to_the_platform_and_what_hangs_is_replaced() -> None:
    made = stood(web=2, worker=0)
    [first, second] = made.env.instances
    made.env = replace(made.env, instances={
        first: replace(made.env.instances[first], ready_at=None, unready_at=made.now),
        second: replace(made.env.instances[second], ready_at=None, ever_ready=False),
    })  # fmt: skip
    seen = made.observe()
    assert seen is not None
    seen = replace(seen, table={})
    hang = {view.id: replace(view, phase=Phase.UNREADY) for view in seen.instances.values()}
    [event] = [
        event
        for event in decide(made.env, replace(seen, instances=hang), made.now + 3600 * SECOND).events
        if isinstance(event, ev.AllocationSet)
    ]
    assert event.allocation.condemned == {first}


def test_a_crash_loop_reverts_a_rollout_and_is_not_held_back() -> None:
    made = stood(web=2, worker=0)
    made.behave(V2, ready_after=None, exits_after=SECOND)
    made.request(V2)
    made.run(seconds=60)
    assert made.env.deployments["d-2"].outcome is Outcome.REVERTED
    assert "exited with status 1 before it was ready" in made.env.deployments["d-2"].why
    made.behave(V1, exits_after=SECOND)
    for pod in made.cluster.pods.values():
        made.cluster.crash(pod, made.now)
    made.run(seconds=60)
    assert any(pause.failures > 2 for pause in made.env.backoff.values()), "it is counted"
    assert made.env.allocation.holding(V1.id, "web").serving == 2, "and Kubernetes waits by itself"


def test_a_restored_installation_finds_its_instances_again() -> None:
    made = stood(web=2, worker=0)
    found, _ = restored(made.env, made.now)
    assert not any(isinstance(event, ev.InstanceLost) for event in found)
    for event in found:
        made.record(event)
    made.run()
    assert {one.exit for one in made.env.instances.values()} == {None}


def test_acts_on_sets_that_are_done_again_after_a_restart() -> None:
    env = settled(native(), old=2)
    act = Action(verb=Verb.ENSURE_SET, number=7, release=V1.id, process="web", count=3)
    assert resume.was_done(act, observed(env, {OLD: 3}))
    assert not resume.was_done(act, observed(env, {OLD: 2}))
    assert resume.still_right(act, env, [replace(act, number=9)])
    assert not resume.still_right(act, env, [replace(act, number=9, count=2)])
    for verb in (Verb.SET_TRAFFIC, Verb.REMOVE_SET):
        other = Action(verb=verb, number=7, release=V1.id)
        assert not resume.was_done(other, observed(env, {}))
        assert resume.still_right(other, env, [replace(other, number=8)])
        assert not resume.still_right(other, env, ())


def test_the_choice_says_what_is_exact() -> None:
    exact, by_ratio = on_cluster(exact=True).env.config, on_cluster(exact=False).env.config
    assert exact is not None
    assert by_ratio is not None
    assert exact.platform.gateway == GATEWAY
    assert exact.platform.exact
    assert not by_ratio.platform.exact
