"""Sharing: how the requests should be shared out between releases, where the platform keeps sets. Pure.

What a release is given goes to all of its instances that are ready. Exact weights are in basis points, or, where each
instance has an equal share, as many parts as instances of the release serve. By ratio a release has 1 or nothing:
where one serves the platform leads to it alone, and where several do it leads to all that is ready of any release. So
what else is there has to go first, and until then one release serves alone, if it is enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from stelae.core.capacity import is_ready
from stelae.core.native import exact
from stelae.core.traffic import entry
from stelae.domain.allocation import Allocation
from stelae.domain.observation import Observation, SetKey
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Instance

Members = Mapping[SetKey, Sequence[Instance]]
Weights = dict[ReleaseId, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """Instances of one release of the process that requests go to: how many ``serve`` by the allocation, are ready,
    are there, and get requests now. What the set is about to lose is neither ready nor gets any."""

    process: str
    serve: int
    ready: int
    there: int
    now: int


Entries = Mapping[ReleaseId, _Entry]


def weights(target: Allocation, env: EnvironmentState, seen: Observation, members: Members) -> Weights:
    """Return what each release should get; one with 0 gets only what a route leads to it, one that is not there
    nothing."""
    entries = {name: _entry(name, target, env, seen, members) for name in _names(target, members)}
    found = {name: part for name, part in _parts(target, env, entries).items() if part}
    if not found and seen.weights and all(entries[name].serve for name in seen.weights if name in entries):
        return {name: part for name, part in seen.weights.items() if name in entries}  # it gets nothing, and is back
    floor = _floor(target, entries)
    if not exact(env):
        return dict.fromkeys(_serving(env, seen, entries, found, floor, bool(target.weights)), 1)
    led = {route.release: 0 for route in target.routes if route.release in entries and entries[route.release].ready}
    found = _with_spare(entries, found, floor)
    return led | (_brief(found) if len(found) < 2 or not target.weights else found)


def leads_everywhere(env: EnvironmentState, weights: Mapping[ReleaseId, int]) -> bool:
    """True when *weights* lead to all that is ready, of whatever release: by ratio, where several serve."""
    return not exact(env) and len(weights) > 1


def _names(target: Allocation, members: Members) -> list[ReleaseId]:
    return list(dict.fromkeys([*(held.release for held in target.holdings), *(release for release, _ in members)]))


def _entry(
    name: ReleaseId, target: Allocation, env: EnvironmentState, seen: Observation, members: Members
) -> _Entry:  # fmt: skip
    process = entry(env.releases[name])
    key = (name, process.name if process is not None else "")
    told, group = seen.sets.get(key, 0), members.get(key, ())
    ready = [one for one in group if is_ready(one, seen)]
    return _Entry(
        process=key[1],
        serve=target.holding(*key).serving,
        ready=min(told, len(ready)),
        there=len(group),
        now=min(told, sum(seen.table.get(one.id, 0) > 0 for one in ready)),
    )


def _parts(target: Allocation, env: EnvironmentState, entries: Entries) -> Weights:
    """What each release that serves gets by the allocation: as much of its weight as it has instances of those that
    should serve, where it is a candidate; few that are ready first do not get the share of all."""
    able = {name: min(one.serve, one.ready) for name, one in entries.items() if one.serve and one.ready}
    if not target.weights:
        return able
    found = {name: target.weights.get(name, 0) for name in able}
    candidate = env.rollout.candidate if env.rollout is not None else None
    if candidate is not None and found.get(candidate):
        found[candidate] = max(1, found[candidate] * able[candidate] // entries[candidate].serve)
    return found


def _floor(target: Allocation, entries: Entries) -> int:
    """How many ready instances must get requests: ``min(floor, those that are ready and get some now)``."""
    now = Counter[str]()
    for one in entries.values():
        now[one.process] += one.now
    return max((min(target.floor.get(process, 0), count) for process, count in now.items()), default=0)


def _with_spare(entries: Entries, found: Weights, floor: int) -> Weights:
    """Return *found* and, while those are not enough for *floor*, a part for others that get requests now."""
    short = floor - sum(entries[name].ready for name in found)
    each = max((Fraction(part, entries[name].ready) for name, part in found.items()), default=Fraction(1))
    for name in sorted(entries):
        if short > 0 and name not in found and entries[name].now:
            found = found | {name: max(1, round(each * min(short, entries[name].now)))}
            short -= entries[name].now
    return found


def _brief(found: Weights) -> Weights:
    """Return the same parts in the smallest numbers: what has not changed is not set anew."""
    divisor = math.gcd(*found.values())
    return {name: part // divisor for name, part in found.items()}


def _serving(
    env: EnvironmentState, seen: Observation, entries: Entries, found: Weights, floor: int, weighted: bool
) -> list[ReleaseId]:  # fmt: skip
    """Which releases serve, where nothing but their names can be told to the platform."""
    names = list(found)
    if len(names) < 2:
        short = sum(entries[name].ready for name in names) < floor
        return names + [name for name, one in entries.items() if short and one.now and name not in found]
    wanted = [name for name, one in entries.items() if one.serve and not weighted]
    if all(name in (*names, *wanted) for name, one in entries.items() if one.there):
        return names
    enough = [name for name in names if entries[name].ready >= floor]
    if enough:
        return [max(enough, key=lambda name: (name == env.stable, entries[name].ready))]
    return [name for name, part in (seen.weights or {}).items() if part and name in entries] or names
