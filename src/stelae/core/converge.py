"""Converge: the next actions that lead a platform of single instances to an allocation. Pure.

The order within one call is launch, route, stop, kill, remove; each call looks at one observation, so an
instance is asked to end only after an observation that shows it without traffic. No act takes an
environment below ``min(floor, ready now)``: where too few of the wanted instances are ready, surplus ones that
are ready keep their traffic.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from stelae.core import backoff, runs
from stelae.core.capacity import counts as _counts
from stelae.core.capacity import is_ready as _ready
from stelae.core.target import live, live_members
from stelae.core.timers import kill_again_at
from stelae.core.traffic import entry, scaled, shares
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.observation import Observation, Phase
from stelae.domain.release import ReleaseId, short_release
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant

Kept = dict[tuple[ReleaseId, str], list[Instance]]


def actions(target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
    """Return the next actions, numbered from ``env.actions + 1``; none on an observation that is incomplete or
    older than the last act. What failed before is left out until its back-off has passed."""
    if not seen.complete or seen.applied < env.applied:
        return ()
    members = live_members(env)
    kept = {
        (held.release, held.process): _keep(held, members.get((held.release, held.process), ()), target, seen)
        for held in target.holdings
    }
    table = _table(target, env, seen, kept)
    staying = {instance.id for group in kept.values() for instance in group} | set(table)
    steps = [
        *_launches(target, env, kept),
        *_route(target, env, seen, table),
        *_stops(target, env, seen, staying | _awaiting(target, env, seen, kept)),
        *_ends(target, env, seen, table),
        *runs.actions(env, seen),
    ]
    return backoff.due(env, steps, seen)


def _keep(held: Holding, members: Iterable[Instance], target: Allocation, seen: Observation) -> list[Instance]:
    """Those of *members* that make up a holding: those with traffic first, then ready ones, then older ones; what
    drifted is the first to go."""
    able = [instance for instance in members if instance.id not in target.condemned]
    able.sort(key=lambda i: (bool(i.drift), i.id not in seen.table, not _ready(i, seen), i.launched_at, i.id))
    return able[: held.total]


def _launches(target: Allocation, env: EnvironmentState, kept: Kept) -> Iterator[Action]:
    counts: dict[str, int] = defaultdict(int, env.launches)
    room = _room(target, env)
    for held in target.holdings:
        short = short_release(held.release)
        for _ in range(held.total - len(kept[held.release, held.process])):
            if room.get(held.process, 1) < 1:
                break  # one has to end first
            if held.process in room:
                room[held.process] -= 1
            counts[short] += 1
            name = InstanceId(f"{held.process}-{short.removeprefix('r-')}-{counts[short]}")
            yield Action(verb=Verb.LAUNCH, instance=name, release=held.release, process=held.process)


def _room(target: Allocation, env: EnvironmentState) -> dict[str, int]:
    """How many more instances there may be, of the processes that have a limit."""
    if not target.most:
        return {}
    there = Counter(i.process for i in env.instances.values() if i.exit is None and not i.failed)
    return {name: limit - there[name] for name, limit in target.most.items()}


def _table(target: Allocation, env: EnvironmentState, seen: Observation, kept: Kept) -> dict[InstanceId, int]:
    """Who should get traffic, and how much: ready instances of serving holdings, by their release's weight. Those
    that only a route leads to have 0."""
    groups: dict[ReleaseId, list[InstanceId]] = {}
    parts: dict[ReleaseId, int] = {}
    for held in target.holdings:
        process = entry(env.releases[held.release])
        if process is None or process.name != held.process or not held.serving:
            continue
        ready = [instance for instance in kept[held.release, held.process] if _ready(instance, seen)][: held.serving]
        groups[held.release] = [instance.id for instance in ready]
        if env.rollout is not None and held.release == env.rollout.candidate:
            parts[held.release] = held.serving  # few that are ready first do not get the share of all
    if target.weights:
        found = shares(groups, target.weights, parts)
    else:
        found = {name: 1 for names in groups.values() for name in names}
    short_of = _floor(target, env, seen) - len(found)
    if short_of > 0:
        spare = [name for name, weight in seen.table.items() if weight and name not in found]
        able = sorted(name for name in spare if _may_go_on(env, name, seen))
        found.update(dict.fromkeys(able[:short_of], max(found.values(), default=1)))
    led = {name: 0 for route in target.routes for name in groups.get(route.release, ())}
    return led | scaled(found)


def _may_go_on(env: EnvironmentState, name: InstanceId, seen: Observation) -> bool:
    instance = env.instances.get(name)
    return instance is not None and _ready(instance, seen)


def _floor(target: Allocation, env: EnvironmentState, seen: Observation) -> int:
    """How many ready instances must have traffic: ``min(floor, those that are ready and have it now)``."""
    now: dict[str, int] = defaultdict(int)
    for name, weight in seen.table.items():
        if weight and _may_go_on(env, name, seen):
            now[env.instances[name].process] += 1
    return max((min(target.floor.get(process, 0), count) for process, count in now.items()), default=0)


def _route(
    target: Allocation, env: EnvironmentState, seen: Observation, table: dict[InstanceId, int]
) -> Iterator[Action]:
    told = (env.hosts, env.routes, dict(env.table))
    if table != dict(seen.table) or told != (target.hosts, target.routes, table):
        yield Action(verb=Verb.ROUTE, table=table, hosts=target.hosts, routes=target.routes)


def _stops(
    target: Allocation, env: EnvironmentState, seen: Observation, staying: set[InstanceId]
) -> Iterator[Action]:
    """Ask to end what is neither held nor needed: only without traffic, drained, and above the floor."""
    idle = [
        instance
        for instance in env.instances.values()
        if instance.id not in staying
        and live(instance)
        and instance.started
        and instance.id not in seen.table
        and instance.id not in env.table
        and _drained(env, instance, seen)
    ]
    ready = _capacity(env, seen) if idle else {}
    spare = {process: count - target.floor.get(process, 0) for process, count in ready.items()}
    for instance in sorted(idle, key=_age):
        if _ready(instance, seen) and _counts(env, instance, seen):
            if spare[instance.process] <= 0:
                continue
            spare[instance.process] -= 1
        yield Action(verb=Verb.STOP, instance=instance.id)


def _awaiting(target: Allocation, env: EnvironmentState, seen: Observation, kept: Kept) -> set[InstanceId]:
    """What works and is to be replaced, until its replacement works too; not where there is no room for both."""
    lacking = {
        key
        for key, group in kept.items()
        if key[1] not in target.most and sum(_ready(one, seen) for one in group) < target.holding(*key).total
    }
    found = (env.instances[name] for name in target.condemned if name in env.instances)
    return {one.id for one in found if (one.release, one.process) in lacking and _ready(one, seen)}


def _age(instance: Instance) -> tuple[Instant, InstanceId]:
    return instance.launched_at, instance.id


def _capacity(env: EnvironmentState, seen: Observation) -> Mapping[str, int]:
    """How many ready instances each process has, by name; a process that has none may be left out."""
    return Counter(i.process for i in env.instances.values() if _ready(i, seen) and _counts(env, i, seen))


def _drained(env: EnvironmentState, instance: Instance, seen: Observation) -> bool:
    process = env.releases[instance.release].process(instance.process)
    view = seen.instances.get(instance.id)
    if instance.drained_at is None or process is None or view is None or view.connections == 0:
        return True
    return seen.as_of - instance.drained_at >= process.drain


def _ends(
    target: Allocation, env: EnvironmentState, seen: Observation, table: dict[InstanceId, int]
) -> Iterator[Action]:
    removing = {action.instance for action in env.pending.values()}
    leaving = [i for i in env.instances.values() if i.exit is not None or i.failed or i.stopped_at is not None]
    ready = _capacity(env, seen) if leaving else {}
    for instance in sorted(leaving, key=_age):
        over = instance.exit is not None or bool(instance.failed)
        if over and instance.id not in seen.table and instance.id not in table and instance.id not in removing:
            yield Action(verb=Verb.REMOVE, instance=instance.id)
        elif not over and _is_dispensable(instance, target, env, seen, ready):
            stop = Action(verb=Verb.STOP, instance=instance.id)
            failed = env.backoff.get(backoff.act_key(stop))
            if failed is not None and failed.failures <= backoff.STOP_TRIES:
                yield stop  # nobody knows whether it was asked to end
            elif _must_be_killed(env, instance, seen):
                yield Action(verb=Verb.KILL, instance=instance.id)


def _is_dispensable(
    instance: Instance, target: Allocation, env: EnvironmentState, seen: Observation, ready: Mapping[str, int]
) -> bool:
    """False for one that was to end and still works (perhaps the request never came) while others do not yet."""
    view = seen.instances.get(instance.id)
    works = view is not None and view.phase is Phase.READY and instance.ready_at is not None
    if not works or not _counts(env, instance, seen):
        return True
    return ready.get(instance.process, 0) >= target.floor.get(instance.process, 0)


def _must_be_killed(env: EnvironmentState, instance: Instance, seen: Observation) -> bool:
    process = env.releases[instance.release].process(instance.process)
    if process is None or instance.stopped_at is None:
        return False
    if seen.as_of - instance.stopped_at < process.stop:
        return False
    return instance.killed_at is None or seen.as_of >= kill_again_at(instance.stopped_at, instance.killed_at)
