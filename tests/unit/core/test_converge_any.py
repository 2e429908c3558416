"""What ``actions`` gives for any record, any observation and any target, and where it leads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from stelae.core import backoff, converge
from stelae.core.evolve import evolve
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import FULL_WEIGHT, Allocation, Holding, InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.release import Release, short_release
from stelae.domain.state import Backoff, EnvironmentState, Instance
from stelae.domain.units import SECOND
from tests.unit.core.fixtures import WEB, WORKER, release

RELEASES = {made.id: made for made in (release("v1"), release("v2"), release("v3", WORKER))}
NOW = 1000 * SECOND
Case = tuple[Allocation, EnvironmentState, Observation]

moments = st.sampled_from([NOW - 100 * SECOND, NOW - 30 * SECOND, NOW - 15 * SECOND, NOW - SECOND, NOW])
perhaps = st.none() | moments


@st.composite
def instances(draw: st.DrawFn) -> dict[InstanceId, Instance]:
    """What is recorded of some instances, in every state of their lives."""
    found = {}
    for number in range(draw(st.integers(0, 7))):
        made = draw(st.sampled_from(list(RELEASES.values())))
        process = draw(st.sampled_from([process.name for process in made.processes]))
        stopped = draw(st.none() | st.none() | moments)
        one = Instance(
            id=InstanceId(f"{process}-{short_release(made.id)[2:]}-{number + 1}"), release=made.id, process=process,
            launched_at=draw(moments), started=draw(st.sampled_from([True, True, True, False])),
            failed=draw(st.sampled_from(["", "", "", "no"])), ready_at=draw(perhaps), drained_at=draw(perhaps),
            stopped_at=stopped, killed_at=draw(perhaps) if stopped is not None else None,
            exit=draw(st.sampled_from([None, None, None, Exit(code=1, at=NOW)])),
        )  # fmt: skip
        found[one.id] = one
    return found


@st.composite
def targets(draw: st.DrawFn, names: list[InstanceId]) -> Allocation:
    """Any allocation, also one that no strategy asks for."""
    keys = [(made.id, process.name) for made in RELEASES.values() for process in made.processes]
    chosen = draw(st.lists(st.sampled_from(keys), unique=True, max_size=4))
    holdings = [
        Holding(release=r, process=p, serving=draw(st.integers(0, 3)), warm=draw(st.integers(0, 2)))
        for r, p in chosen
    ]
    part = draw(st.integers(0, FULL_WEIGHT))
    first, second = list(RELEASES)[:2]
    weights = {first: part, second: FULL_WEIGHT - part} if draw(st.booleans()) else {}
    floor = draw(st.dictionaries(st.sampled_from(["web", "worker"]), st.integers(1, 4)))
    condemned = frozenset(draw(st.lists(st.sampled_from(names), max_size=2))) if names else frozenset()
    return Allocation(holdings=tuple(holdings), weights=weights, floor=floor, hosts=("h",), condemned=condemned)


def _table(names: list[InstanceId]) -> dict[InstanceId, int]:
    return dict.fromkeys(names, 256)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A target, a record and an observation, which agree or do not."""
    known = draw(instances())
    names = list(known)
    routable = [name for name in names if name.startswith("web")]
    tables = st.lists(st.sampled_from(routable), unique=True).map(_table) if routable else st.just({})
    views = {
        name: Seen(
            id=name,
            phase=draw(st.sampled_from([Phase.READY, Phase.READY, *Phase])),
            connections=draw(st.integers(0, 1)),
        )
        for name in names
        if draw(st.sampled_from([True, True, True, False]))
    }
    seen = Observation(
        as_of=NOW, applied=draw(st.integers(4, 6)), complete=draw(st.sampled_from([True, True, True, False])),
        instances=views, table=draw(tables),
    )  # fmt: skip
    env = EnvironmentState(
        id=EnvironmentId("shop/test"), instances=known, table=draw(st.just(seen.table) | tables), hosts=("h",),
        actions=draw(st.integers(5, 9)), applied=5, launches={short_release(made): 7 for made in RELEASES},
        releases=RELEASES,
    )  # fmt: skip
    return draw(targets(names)), env, seen


def known(env: EnvironmentState, seen: Observation) -> bool:
    return seen.complete and seen.applied >= env.applied


def live(instance: Instance) -> bool:
    return not instance.failed and instance.exit is None and instance.stopped_at is None


def ready(env: EnvironmentState, seen: Observation, name: InstanceId) -> bool:
    one, view = env.instances.get(name), seen.instances.get(name)
    return (
        one is not None and live(one) and one.ready_at is not None and view is not None and view.phase is Phase.READY
    )


def capacity(
    env: EnvironmentState, seen: Observation, table: Mapping[InstanceId, int], without: set[InstanceId]
) -> Counter[str]:
    """Ready instances of each process; of the one that traffic goes to only those that get some."""
    counts: Counter[str] = Counter()
    for name, one in env.instances.items():
        process = entry(env.releases[one.release])
        routed = process is None or process.name != one.process or name in table
        if ready(env, seen, name) and routed and name not in without:
            counts[one.process] += 1
    return counts


def of(found: tuple[Action, ...], verb: Verb) -> list[Action]:
    return [action for action in found if action.verb is verb]


@given(cases())
def test_nothing_is_done_unless_all_is_known(case: Case) -> None:
    target, env, seen = case
    if not known(env, seen):
        assert converge.actions(target, env, seen) == ()


@given(cases())
def test_the_same_gives_the_same_and_numbers_follow_each_other(case: Case) -> None:
    target, env, seen = case
    found = converge.actions(target, env, seen)
    assert found == converge.actions(target, env, seen)
    assert [action.number for action in found] == list(range(env.actions + 1, env.actions + 1 + len(found)))
    order = list(Verb)
    assert len(of(found, Verb.ROUTE)) <= 1
    assert [order.index(action.verb) for action in found if action.verb in order[:3]] == sorted(
        order.index(action.verb) for action in found if action.verb in order[:3]
    )


@given(cases())
def test_each_instance_that_lacks_is_launched_once_under_a_new_name(case: Case) -> None:
    target, env, seen = case
    assume(known(env, seen))
    found = converge.actions(target, env, seen)
    launched = Counter((action.release, action.process) for action in of(found, Verb.LAUNCH))
    there = Counter(
        (one.release, one.process) for one in env.instances.values() if live(one) and one.id not in target.condemned
    )
    for held in target.holdings:
        key = held.release, held.process
        assert launched[key] == max(0, held.total - there[key])
    names = [action.instance for action in of(found, Verb.LAUNCH)]
    assert len(names) == len(set(names))
    assert not set(names) & env.instances.keys()
    for action in found:
        env = evolve(env, ev.ActionIntended(action=action), NOW)
    again = converge.actions(target, env, seen)
    assert not of(again, Verb.LAUNCH), "what was intended is not launched a second time"


@given(cases())
def test_traffic_goes_only_to_what_is_ready_and_never_falls_below_the_floor(case: Case) -> None:
    target, env, seen = case
    assume(known(env, seen))
    for action in of(converge.actions(target, env, seen), Verb.ROUTE):
        assert all(ready(env, seen, name) for name in action.table)
        assert all(1 <= weight <= 256 for weight in action.table.values())
        assert action.hosts == target.hosts
        before = Counter(env.instances[name].process for name in seen.table if ready(env, seen, name))
        enough = max((min(target.floor.get(name, 0), count) for name, count in before.items()), default=0)
        assert len(action.table) >= enough


@given(cases())
def test_nothing_that_is_needed_or_has_traffic_is_asked_to_end(case: Case) -> None:
    target, env, seen = case
    assume(known(env, seen))
    found = converge.actions(target, env, seen)
    first = {action.instance for action in of(found, Verb.STOP) if env.instances[action.instance].stopped_at is None}
    for name in first:
        one, view = env.instances[name], seen.instances.get(name)
        assert live(one)
        assert name not in seen.table
        assert name not in env.table
        assert all(name not in action.table for action in of(found, Verb.ROUTE))
        waited = one.drained_at is None or NOW - one.drained_at >= (
            20 * SECOND if one.process == "web" else 30 * SECOND
        )
        assert waited or view is None or view.connections == 0
    held = {(one.release, one.process): one.total for one in target.holdings}
    left = Counter(
        (one.release, one.process)
        for one in env.instances.values()
        if live(one) and one.id not in target.condemned and one.id not in first
    )
    there = Counter(
        (one.release, one.process) for one in env.instances.values() if live(one) and one.id not in target.condemned
    )
    assert all(left[key] >= min(total, there[key]) for key, total in held.items())
    before, after = capacity(env, seen, seen.table, set()), capacity(env, seen, seen.table, first)
    assert all(after[name] >= min(target.floor.get(name, 0), count) for name, count in before.items())


@given(cases())
def test_only_what_was_asked_to_end_in_vain_is_killed_and_only_what_is_over_is_removed(case: Case) -> None:
    target, env, seen = case
    assume(known(env, seen))
    found = converge.actions(target, env, seen)
    for action in of(found, Verb.KILL):
        one = env.instances[action.instance]
        assert one.exit is None
        assert one.stopped_at is not None
        assert NOW - one.stopped_at >= 10 * SECOND
    for action in of(found, Verb.REMOVE):
        one = env.instances[action.instance]
        assert one.exit is not None or one.failed
        assert action.instance not in seen.table
    once = [(action.verb, action.instance) for action in found]
    assert len(once) == len(set(once))


@given(cases(), st.data())
def test_what_failed_waits_for_its_time_and_the_rest_goes_on(case: Case, data: st.DataObject) -> None:
    target, env, seen = case
    found = converge.actions(target, env, seen)
    assume(found)
    one = data.draw(st.sampled_from(found))
    pause = Backoff(failures=backoff.STOP_TRIES + 1, until=NOW + data.draw(st.sampled_from([-1, 0, 1])))
    if one.verb is Verb.STOP and env.instances[one.instance].stopped_at is not None:
        return
    later = converge.actions(target, replace(env, backoff={backoff.act_key(one): pause}), seen)
    left = [replace(action, number=0) for action in found if action != one or pause.until <= NOW]
    assert [replace(action, number=0) for action in later] == left


class Ideal:
    """A machine on which everything works at once, with the record of it."""

    def __init__(self, env: EnvironmentState, seen: Observation) -> None:
        running = {
            name: one for name, one in env.instances.items() if one.exit is None and not one.failed and one.started
        }
        self.now = NOW
        self.table = {name: weight for name, weight in seen.table.items() if name in running}
        self.there = dict.fromkeys(running, Phase.READY)
        self.env = env
        for name, one in env.instances.items():
            if name not in running and one.exit is None and not one.failed:
                self.record(ev.InstanceLost(instance=name))
            elif name in running and one.ready_at is None:
                self.record(ev.InstanceReady(instance=name))

    def record(self, event: ev.Event) -> None:
        self.env = evolve(self.env, event, self.now)

    def do(self, action: Action) -> None:
        self.record(ev.ActionIntended(action=action))
        self.record(ev.ActionDone(number=action.number))
        if action.verb is Verb.LAUNCH:
            self.there[action.instance] = Phase.READY
            self.record(ev.InstanceReady(instance=action.instance))
        elif action.verb is Verb.ROUTE:
            self.table = dict(action.table)
        elif action.verb is Verb.REMOVE:
            self.there.pop(action.instance, None)
        elif self.there[action.instance] is not Phase.EXITED:
            self.there[action.instance] = Phase.EXITED
            self.record(ev.InstanceExited(instance=action.instance, exit=Exit(code=143, at=self.now)))

    def look(self) -> Observation:
        self.now += 100 * SECOND
        seen = {name: Seen(id=name, phase=phase) for name, phase in self.there.items()}
        return Observation(as_of=self.now, applied=self.env.applied, instances=seen, table=dict(self.table))


@given(cases())
def test_a_machine_on_which_all_works_holds_the_target_after_a_few_passes(case: Case) -> None:
    target, env, seen = case
    counts = [held.serving for held in target.holdings]
    total = Counter(held.process for held in target.holdings for _ in range(held.total))
    serves = Counter(
        held.process for held in target.holdings for _ in range(held.serving)
        if _gets_traffic(target, held) or held.process != "web"
    )  # fmt: skip
    floor = {name: min(count, serves[name]) for name, count in target.floor.items()}
    target = replace(target, floor={name: count for name, count in floor.items() if count})
    ideal = Ideal(env, seen)
    for _ in range(8):
        found = converge.actions(target, ideal.env, ideal.look())
        if not found:
            break
        for action in found:
            ideal.do(action)
    assert not converge.actions(target, ideal.env, ideal.look()), "it does not come to rest"
    assert Counter(one.process for one in ideal.env.instances.values()) == total
    assert ideal.there.keys() == ideal.env.instances.keys()
    wanted = Counter(
        {held.release: held.serving for held in target.holdings if _gets_traffic(target, held) and held.serving}
    )
    assert Counter(ideal.env.instances[name].release for name in ideal.table) == wanted
    assert sum(counts) >= sum(wanted.values())
    assert not target.condemned & ideal.there.keys()


def _gets_traffic(target: Allocation, held: Holding) -> bool:
    process = entry(RELEASES[held.release])
    entered = process is not None and process.name == held.process
    return entered and (not target.weights or target.weights.get(held.release, 0) > 0)


def test_the_cases_are_of_releases_with_and_without_traffic() -> None:
    made: list[Release] = list(RELEASES.values())
    assert [entry(one) for one in made] == [WEB, WEB, None]
