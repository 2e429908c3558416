"""Random lives of an environment on a platform that keeps sets: no act breaks a law, and every rollout ends.

Most of them find nothing in a correct core; ``PLANTED`` shows that they find what a careless change would break.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import decide, facts, failures, gates, replacing, sets, sharing, target
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.drift import Drift
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.cluster import Cluster
from stelae.testing.set_world import SetWorld, mends
from stelae.testing.things import Behaviour, BrokenLaw
from tests.unit.core.fixtures import release
from tests.unit.core.people import by_a_person
from tests.unit.core.sets_fixtures import on_cluster

SEEDS = int(os.environ.get("STELAE_CORE_SEEDS", "100"))
KINDS = ("recreate", "rolling", "blue-green", "canary")
FAILING = (Verb.ENSURE_SET, Verb.SET_TRAFFIC, Verb.REMOVE_SET)


def _behaviour(chance: random.Random) -> Behaviour:
    return Behaviour(
        ready_after=chance.choice([0, 20 * MILLISECOND, 3 * SECOND, None]),
        exits_after=chance.choice([None, None, None, SECOND, 10 * SECOND]),
        unready_after=chance.choice([None, None, None, 5 * SECOND]),
        stops_after=chance.choice([0, SECOND]),
        ignores_term=chance.random() < 0.1,
    )


def _draw(chance: random.Random, kind: str) -> SetWorld:
    cluster = Cluster(
        chance=chance, lag=chance.choice([0, 0, 200 * MILLISECOND, 2 * SECOND]), drain=chance.choice([0, 5 * SECOND])
    )
    made = on_cluster(
        kind, exact=chance.random() < 0.5, cluster=cluster, web=chance.randrange(1, 6), worker=chance.randrange(3),
        bake=0 if kind == "recreate" else chance.choice([0, 30]), batch=chance.choice([10, 25, 50, 100]),
        surge=chance.choice([100, 100, 25]), min_healthy=chance.choice([0, SECOND]),
    )  # fmt: skip
    for number in range(6):
        made.cluster.behaviours[release(f"v{number}").id] = _behaviour(chance)
    return made


def _happen(made: SetWorld, chance: random.Random) -> None:
    what, cluster = chance.randrange(14), made.cluster
    if chance.random() < 0.15:
        _attack(cluster, chance)
    pods = list(cluster.pods.values())
    if what <= 5:
        by_a_person(made, chance, max(0, what - 2))
    elif what == 6 and pods:
        cluster.crash(chance.choice(pods), made.now)
    elif what == 7 and pods:
        cluster.end(chance.choice(pods), made.now)
    elif what == 8:
        made.reachable = not made.reachable
    elif what == 9:
        made.complete = not made.complete
    elif what == 10 and cluster.sets:
        cluster.sets[chance.choice(list(cluster.sets))] = chance.randrange(5)  # by somebody else
    elif what == 11:
        made.next_fails, made.lost = chance.choice([(chance.choice(FAILING), False), (None, True)])
    elif what == 12 and made.env.instances:
        name = chance.choice(list(made.env.instances))
        made.record(chance.choice([
            ev.DriftFound(instance=name, drift=Drift.PROCESS, what="it runs something else"),
            ev.ReplacementRequested(instances=(name,), reason="because"),
        ]))  # fmt: skip
    elif what == 13:
        if chance.random() < 0.3:
            cluster.lose()
        made.now += chance.choice([SECOND, 60 * SECOND])  # nobody looks for a while
        cluster.age_to(made.now)


def _attack(cluster: Cluster, chance: random.Random) -> None:
    """Somebody changes a set, or makes a pod with the labels of one."""
    web = [key for key in cluster.sets if key[1] == "web"]
    if web and chance.random() < 0.5:
        cluster.stray(chance.choice(web))
    elif cluster.sets:
        cluster.edited.add(chance.choice(list(cluster.sets)))


def live(kind: str, seed: int) -> SetWorld:
    """Live a life to its end; raises BrokenLaw."""
    chance = random.Random(f"{kind} {seed}")
    made = _draw(chance, kind)
    for _ in range(chance.randrange(3, 14)):
        _happen(made, chance)
        made.run(seconds=chance.choice([0.01, 0.1, 1, 10, 60]))
    made.reachable = made.complete = True
    made.run(seconds=3600)
    for what in _at_rest(made):
        raise BrokenLaw(what)
    return made


def _at_rest(made: SetWorld) -> Iterator[str]:
    """What is not as it must be when nothing is left to do."""
    env, cluster = made.env, made.cluster
    if env.rollout is not None:
        yield "law 8: the rollout never ended"
    if env.pending:
        yield "law 5: an act has no outcome"
    seen = {event.instance: event.release for _, event in made.log if isinstance(event, ev.InstanceSeen)}
    if any(one.id in seen and seen[one.id] != one.release for one in env.instances.values()):
        yield "law 2: an instance changed its release"
    if dict(env.sets) != {f"{of}/{name}": n for (of, name), n in cluster.sets.items()}:
        yield f"the record has the sets {env.sets}, the cluster {cluster.sets}"
    there = {view for pod in cluster.pods.values() for view in _ids(pod)}
    if set(env.instances) != there:
        yield f"instances of the record and of the cluster differ: {sorted(set(env.instances) ^ there)}"
    kept = {*env.stables[-sets.KEEP :], *env.warm}
    for key, count in cluster.sets.items():
        if not count and key[0] not in kept:
            yield f"an empty set is left: {key}"
    allowed = {env.stable, *env.warm}
    if any(made.ready(env.stable, name) < count for name, count in env.allocation.floor.items()):
        return
    if mends(env) and (cluster.edited or cluster.strays):
        yield f"law 10: what somebody did is left: {cluster.edited or cluster.strays}"
    for pod in cluster.pods.values():
        if pod.key[0] not in allowed:
            yield f"{pod.name} still runs"
    if env.stable is None:
        return
    stable = env.releases[env.stable]
    first, table = entry(stable), cluster.table(env, made.now)
    for name, count in env.wanted.items():
        wanted = count if stable.process(name) else 0
        if cluster.sets.get((stable.id, name), 0) != wanted:
            yield f"{cluster.sets.get((stable.id, name), 0)} {name} are kept, of {wanted}"
        own = [one for one in table if one not in cluster.strays]
        if first is not None and name == first.name and len(own) != made.ready(stable.id, name):
            yield f"requests go to {sorted(table)}"


def _ids(pod: Any) -> Iterator[str]:
    if pod.last is not None:
        yield pod.last[0]
    if pod.thing is not None:
        yield pod.incarnation


@pytest.mark.parametrize("kind", KINDS)
def test_random_lives_break_no_law(kind: str) -> None:
    happened: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            made = live(kind, seed)
        except (BrokenLaw, KeyError) as broken:
            raise AssertionError(f"seed {kind} {seed}: {broken}") from broken
        happened.update({event.kind for _, event in made.log})
        happened.update({event.action.verb for _, event in made.log if isinstance(event, ev.ActionIntended)})
        happened.update(str(event.outcome) for _, event in made.log if isinstance(event, ev.RolloutEnded))
    wanted = {
        "instance.seen", "instance.ending", "instance.gone", "instance.exited", "instance.lost", "ensure-set",
        "set-traffic", "remove-set", "succeeded", "reverted", "superseded",
    }  # fmt: skip
    rare = {name for name in wanted if happened[name] < SEEDS // 20}
    assert not rare, f"too rare to prove anything: {rare}"


def _knows_everything(actions: Any) -> Any:
    return lambda target, env, seen: actions(target, env, replace(seen, complete=True, applied=env.applied))


def _seems_ready(instance: Any, seen: Any) -> bool:
    return instance.id in seen.instances


PLANTED: dict[str, tuple[str, Any, str, Any]] = {
    "requests for what is not ready (law 6)": ("rolling", sharing, "is_ready", _seems_ready),
    "the floor is forgotten where requests are shared out (law 6)": ("rolling", sharing, "_floor", lambda *_: 0),
    "what is to go counts as capacity (law 6)": ("rolling", sets, "_working", lambda look, key: look.of(key)),
    "a set is emptied that gets requests (law 6)": ("blue-green", sets, "_has_to_leave_first", lambda *_: False),
    "more instances than the surge allows (law 6)": ("rolling", sets, "_room", lambda _: {}),
    "by ratio others get requests too (law 6)": ("rolling", sharing, "_serving", lambda *given: list(given[3])),
    "recreate overlaps (law 6)": ("recreate", target, "_must_not_overlap", lambda *_: False),
    "unknown counts as known (law 11)": ("rolling", sets, "actions", _knows_everything(sets.actions)),
    "a rollout never ends (law 8)": ("rolling", decide, "_overdue", lambda *_: iter(())),
    "a success that is none (law 8)": ("rolling", gates, "is_held", lambda *_: True),
    "what is gone is never forgotten (exact inventory)": ("rolling", facts, "_vanished", lambda *_: iter(())),
    "old sets are never emptied (exact inventory)": ("rolling", sets, "_shrinking", lambda *_: iter(())),
    "old sets are never taken away (exact inventory)": ("rolling", sets, "_going", lambda *_: iter(())),
    "an edited set stays as it is, and a stray too (law 10)": ("rolling", replacing, "puts_right", lambda _: False),
    "what may get requests goes before there is enough (law 6)": (
        "rolling", sets, "_strays", lambda look: (
            Action(verb=Verb.REMOVE, instance=name) for name in sorted(look.seen.strays)
        ),
    ),
    "sets are taken away with what is in them (law 6)": (
        "rolling", sets, "_going", lambda look, wanted: (
            Action(verb=Verb.REMOVE_SET, release=of, process=name) for (of, name), n in wanted.items() if not n
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, where, name, wrong = PLANTED[bug]
    if "never ends" in bug:
        monkeypatch.setattr(failures, "failure", lambda *_: None)
    monkeypatch.setattr(where, name, wrong)
    for seed in range(300):
        try:
            live(kind, seed)
        except BrokenLaw as broken:
            print(f"found by seed {seed}: {bug}: {broken}")
            return
    raise AssertionError("not found")
