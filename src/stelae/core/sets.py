"""Sets: the next actions that lead a platform which keeps sets of instances to an allocation. Pure.

The order within one call is: sets that grow, traffic, sets that shrink, sets that go. Each call looks at one
observation, so a set gets smaller only after an observation that shows what is left to be enough: no act takes an
environment below ``min(floor, ready now)``. A set whose release is to get no requests gets smaller only once it gets
none. How a single instance drains and ends is the platform's own affair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stelae.core import backoff, replacing, runs, sharing
from stelae.core.capacity import counts, is_entry, is_ready
from stelae.core.native import of_key, set_key
from stelae.core.target import live_members
from stelae.core.traffic import entry
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.observation import Observation, Phase, SetKey
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Instance

KEEP = 4
"""The sets of so many of the last stable releases stay, empty: a rollback to them only has to fill them."""

MOST_VICTIMS = 50
"""So many instances are named at most as those that have to go first."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one call is about; ``weights`` is how the requests should be shared out now."""

    target: Allocation
    env: EnvironmentState
    seen: Observation
    members: Mapping[SetKey, Sequence[Instance]]
    weights: Mapping[ReleaseId, int]

    def count(self, key: SetKey) -> int:
        """How many instances the platform was told to keep in the set *key*."""
        return self.seen.sets.get(key, 0)

    def of(self, key: SetKey) -> Sequence[Instance]:
        """The live instances of the set *key*."""
        return self.members.get(key, ())

    def stays(self, release: ReleaseId) -> bool:
        """True when *release* gets requests by the weights, or they cannot keep them away from it."""
        return bool(self.weights.get(release)) or sharing.leads_everywhere(self.env, self.weights)


def actions(target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
    """Return the next actions, numbered from ``env.actions + 1``; none on an observation that is incomplete or
    older than the last act. What failed before is left out until its back-off has passed."""
    if not seen.complete or seen.applied < env.applied:
        return ()
    members = live_members(env)
    look = _Look(target, env, seen, members, sharing.weights(target, env, seen, members))
    wanted = _wanted(look)
    steps = [
        *_growing(look, wanted),
        *_traffic(look),
        *_shrinking(look, wanted),
        *_going(look, wanted),
        *_strays(look),
        *runs.actions(env, seen),
    ]
    return backoff.due(env, steps, seen)


def _wanted(look: _Look) -> dict[SetKey, int]:
    """How many instances each set should have: all that there are, and all that are held."""
    told = (of_key(key) for key in look.env.sets)
    found = dict.fromkeys((key for key in (*look.seen.sets, *told) if key[0] in look.env.releases), 0)
    for held in look.target.holdings:
        key = (held.release, held.process)
        found[key] = max(0, held.total + _replaced(look, key, held.total)) if _is_separable(look, held) else 0
    return found


def _is_separable(look: _Look, held: Holding) -> bool:
    """False for what is only to be warm where nothing can keep the requests away from it."""
    process = entry(look.env.releases[held.release])
    warm_entry = process is not None and process.name == held.process and not held.serving
    return not warm_entry or not sharing.leads_everywhere(look.env, look.weights)


def _replaced(look: _Look, key: SetKey, total: int) -> int:
    """How many more instances, or fewer, a set of *total* has while some of it are replaced: what does not work goes
    first, and what does stays until as many others do, where there is room for both."""
    group = look.of(key)
    gone = [one for one in group if one.id in look.target.condemned]
    working = [one for one in gone if is_ready(one, look.seen)]
    if len(working) < len(gone):
        return len(working) - len(gone)
    if key[1] in look.target.most:
        return -len(gone)
    others = sum(is_ready(one, look.seen) for one in group) - len(working)
    return len(working) if others < total else 0


def _growing(look: _Look, wanted: Mapping[SetKey, int]) -> Iterator[Action]:
    room = _room(look)
    for key, count in wanted.items():
        now = look.count(key)
        more = min(count - now, room.get(key[1], count))
        if more > 0:
            if key[1] in room:
                room[key[1]] -= more
            yield _ensure(key, now + more)
        elif count == now and key in look.seen.sets and look.env.sets.get(set_key(*key)) != count:
            yield _ensure(key, count)  # it became so by somebody else: from now on the record has it
        elif count == now and key in look.seen.edited and replacing.puts_right(look.env):
            yield _ensure(key, count)  # as often as it is changed, by the back-off of acts that do not last


def _room(look: _Look) -> dict[str, int]:
    """How many more instances there may be, of the processes that have a limit."""
    there = Counter[str]()
    for key, count in look.seen.sets.items():
        there[key[1]] += max(0, count - len(look.of(key)))  # those that are not there yet
    for instance in look.env.instances.values() if look.target.most else ():
        there[instance.process] += instance.exit is None
    return {name: limit - there[name] for name, limit in look.target.most.items()}


def _ensure(key: SetKey, count: int, victims: tuple[InstanceId, ...] = ()) -> Action:
    return Action(verb=Verb.ENSURE_SET, release=key[0], process=key[1], count=count, victims=victims)


def _traffic(look: _Look) -> Iterator[Action]:
    env, target, weights = look.env, look.target, dict(look.weights)
    hosts = () if env.down else target.hosts
    told = (dict(env.weights), env.hosts, env.routes)
    if dict(look.seen.weights or {}) != weights or told != (weights, hosts, target.routes):
        yield Action(verb=Verb.SET_TRAFFIC, weights=weights, hosts=hosts, routes=target.routes)


def _shrinking(look: _Look, wanted: Mapping[SetKey, int]) -> Iterator[Action]:
    """Make sets smaller: those that get no requests, and others as far as what is left is above the floor."""
    working = {key: _working(look, key) for key in look.seen.sets}
    spare = _spare(look, {key: len(able) for key, able in working.items()})
    soon = {key: _soon(look, key) for key in look.seen.sets}  # once the requests are as they should be
    spare_soon = _spare(look, soon)
    for key, count in sorted(wanted.items(), key=lambda item: item[1]):
        now, able, will = look.count(key), working.get(key, []), soon.get(key, 0)
        if count >= now or _has_to_leave_first(look, key):
            continue
        stay = len(able) - min(len(able), max(0, spare[key[1]]))
        stay_soon = will - min(will, max(0, spare_soon[key[1]]))
        left = max(count, min(now, max(stay, stay_soon)))
        if left < now:
            spare[key[1]] -= max(0, len(able) - left)
            spare_soon[key[1]] -= max(0, will - left)
            yield _ensure(key, left, _victims(look, key, able, left))


def _spare(look: _Look, working: Mapping[SetKey, int]) -> Counter[str]:
    """How many instances of each process are beyond its floor, of those that work in each set."""
    found = Counter[str]()
    for key, count in working.items():
        found[key[1]] += count
    found.subtract(look.target.floor)
    return found


def _working(look: _Look, key: SetKey) -> Sequence[Instance]:
    """The instances of a set that are capacity and will be: as many as the platform was told to keep."""
    env, seen = look.env, look.seen
    able = [one for one in look.of(key) if is_ready(one, seen) and counts(env, one, seen)]
    if able and is_entry(env, able[0]) and not look.stays(key[0]):
        return ()
    return able[: look.count(key)]


def _soon(look: _Look, key: SetKey) -> int:
    """How many instances of a set are capacity when the requests are shared out as they should be."""
    ready = [one for one in look.of(key) if is_ready(one, look.seen)]
    if ready and is_entry(look.env, ready[0]) and not look.stays(key[0]):
        return 0
    return min(len(ready), look.count(key))


def _has_to_leave_first(look: _Look, key: SetKey) -> bool:
    """True for a set that gets requests and is to get none."""
    routed = any(one.id in look.seen.table for one in look.of(key))
    return routed and key[0] not in look.weights and not look.stays(key[0])


def _victims(look: _Look, key: SetKey, able: Sequence[Instance], left: int) -> tuple[InstanceId, ...]:
    """Those of a set that have to go first: what is replaced, what drifted, what the platform takes for ready and
    is not capacity."""
    if not left:
        return ()
    condemned, capacity = look.target.condemned, {one.id for one in able}
    odd = [
        (one.id not in condemned, not one.drift, one.launched_at, one.id)
        for one in look.of(key)
        if one.id in condemned or one.drift or (_seems_ready(look, one) and one.id not in capacity)
    ]
    return tuple(name for *_, name in sorted(odd)[: min(MOST_VICTIMS, look.count(key) - left)])


def _seems_ready(look: _Look, instance: Instance) -> bool:
    view = look.seen.instances.get(instance.id)
    return view is not None and view.phase is Phase.READY


def _going(look: _Look, wanted: Mapping[SetKey, int]) -> Iterator[Action]:
    """Take away empty sets of which nothing is left, but for those that a rollback would fill again; and those that
    somebody else has taken away."""
    env = look.env
    left = {(one.release, one.process) for one in env.instances.values()}
    left.update((view.release, view.process) for view in look.seen.instances.values() if view.id not in env.runs)
    kept = _kept(env)
    for key, count in wanted.items():
        there, recorded = key in look.seen.sets, set_key(*key) in env.sets
        if count or look.count(key) or key in left:
            continue
        if (there and key[0] not in kept) or (recorded and not there):
            yield Action(verb=Verb.REMOVE_SET, release=key[0], process=key[1])


def _strays(look: _Look) -> Iterator[Action]:
    """Take away what only looks like an instance, once there is enough without it: it may get requests until then."""
    if not look.seen.strays or not replacing.puts_right(look.env):
        return
    able = Counter[str]()
    for key in look.seen.sets:
        able[key[1]] += len(_working(look, key))
    busy = {action.instance for action in look.env.pending.values()}
    if all(able[process] >= count for process, count in look.target.floor.items()):
        for name in sorted(look.seen.strays - busy)[:MOST_VICTIMS]:
            yield Action(verb=Verb.REMOVE, instance=name)


def _kept(env: EnvironmentState) -> set[ReleaseId]:
    if env.down:
        return set()
    rollout = (env.rollout.candidate,) if env.rollout is not None else ()
    return {*env.stables[-KEEP:], *env.warm, *rollout}
