"""What deciding costs grows with the number of instances and not faster. Counted, not timed."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from stelae.core import fold, owned
from stelae.core.evolve import evolve_all
from stelae.domain import event as ev
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.testing.world import World
from tests.unit.core import test_random
from tests.unit.core.crowd import Crowd
from tests.unit.core.fixtures import environment, release

MOST = 2.3
"""Twice the instances may take so many times the calls; sorting takes a little more than twice."""


def calls(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    """Call *function* and count the calls that it makes, of Python's functions and of built-in ones."""
    count = 0

    def note(frame: object, what: str, argument: object) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    sys.setprofile(note)
    try:
        result = function(*arguments)
    finally:
        sys.setprofile(None)
    return result, count


def cost(count: int, kind: str) -> dict[str, list[float]]:
    """Return the calls of each sort of pass in which *count* instances of a release are replaced."""
    crowd = Crowd(count, calls, kind, batch=50)
    crowd.deploy("v1")
    found: dict[str, list[float]] = {}
    for number, done in enumerate(crowd.deploy("v2")):
        found[f"{number} {done.what}"] = [done.decide, done.actions, done.fold]
    return found


@pytest.mark.parametrize("kind", ["recreate", "rolling", "blue-green", "canary"])
def test_twice_the_instances_take_no_more_than_twice_the_calls(kind: str) -> None:
    few, many = cost(200, kind), cost(400, kind)
    assert few.keys() == many.keys()
    assert {name.split()[1] for name in few} >= {"launch", "instance.ready", "route", "stop", "rest"}
    for name, costs in few.items():
        for part, (before, after) in enumerate(zip(costs, many[name], strict=True)):
            assert after <= MOST * before + 100, f"{name}, part {part}: {before:g} calls, then {after:g}"


def test_a_fold_of_many_events_copies_a_mapping_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []

    class Counted(owned.Owned[Any, Any]):
        def __init__(self, mapping: Any) -> None:
            super().__init__(mapping)
            copied.append(len(self))

    count = 300
    crowd = Crowd(count, lambda function, arguments: (function(*arguments), 0.0))
    crowd.deploy("v1")
    events = [ev.InstanceUnready(instance=name) for name in crowd.env.instances]
    monkeypatch.setattr(owned, "Owned", Counted)
    after = evolve_all(crowd.env, events, crowd.now)
    assert copied == [count]
    assert all(instance.ready_at is None for instance in after.instances.values())
    assert all(instance.ready_at is not None for instance in crowd.env.instances.values())


def test_events_folded_at_once_give_what_they_give_one_by_one_and_change_nothing_else() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        items = _life(chance)
        at_once = one_by_one = InstallationState()
        kept: list[tuple[InstallationState, str]] = []
        while items:
            size = chance.choice([1, 3, 10, 100])
            part, items = items[:size], items[size:]
            kept.append((at_once, repr(at_once)))
            at_once = fold.apply_all(at_once, part)
            for item in part:
                one_by_one = fold.apply(one_by_one, item)
            assert at_once == one_by_one
            assert repr(at_once) == repr(one_by_one), f"seed {seed}: the same, in another order"
            assert _plain(at_once)
        for state, was in kept:
            assert repr(state) == was, f"seed {seed}: a state that was kept has changed"


def _life(chance: random.Random) -> list[ev.Recorded]:
    """What is recorded in a random life of one environment."""
    made = World.of(environment("rolling", web=chance.randrange(1, 6), bake=chance.choice([0, 30])))
    for number in range(6):
        made.behaviours[release(f"v{number}").id] = test_random._behaviour(chance)
    for _ in range(6):
        test_random._happen(made, chance)
        made.run(seconds=chance.choice([0.1, 1, 10, 60]))
    return [
        ev.Recorded(index=index, at=at, actor="tester", event=event, environment=made.env.id, key=f"k{index}")
        for index, (at, event) in enumerate(made.log)
    ]


def _plain(state: InstallationState | EnvironmentState) -> bool:
    """True when all mappings of *state* are plain ones, which nobody changes."""
    values = [getattr(state, name) for name in state.__slots__]
    inner = state.environments.values() if isinstance(state, InstallationState) else ()
    return not any(isinstance(value, owned.Owned) for value in values) and all(map(_plain, inner))


def test_an_owned_mapping_is_changed_in_place_and_any_other_is_copied() -> None:
    shared = {"a": 1, "b": 2}
    own = owned.with_item(shared, "c", 3)
    assert owned.with_item(own, "a", 9) is own
    assert owned.without(own, "b") is own
    assert list(own.items()) == [("a", 9), ("c", 3)]
    assert shared == {"a": 1, "b": 2}
    assert owned.without(shared, "a") == {"b": 2}
    assert owned.without(shared, "z") is shared
    assert shared == {"a": 1, "b": 2}


def test_settling_gives_plain_mappings_and_keeps_what_has_none() -> None:
    state = EnvironmentState(id=environment().id, wanted={"web": 1})
    assert owned.settled(state) is state
    loose = owned.changed(state, launches=owned.with_item(state.launches, "r-aaaaaa", 1))
    done = owned.settled(loose)
    assert type(done.launches) is dict
    assert done.launches == {"r-aaaaaa": 1}
    assert done.wanted is state.wanted
    assert owned.changed(loose, launches=loose.launches) is loose


def test_a_changed_copy_is_what_replace_makes_and_leaves_the_original() -> None:
    before = EnvironmentState(id=environment().id, wanted={"web": 1}, actions=3)
    was = repr(before)
    after = owned.changed(before, actions=4, wanted={"web": 2}, down=True)
    assert after == replace(before, actions=4, wanted={"web": 2}, down=True)
    assert repr(before) == was
    assert after.releases is before.releases
    assert owned.changed(before, actions=3) is before
    with pytest.raises(FrozenInstanceError):
        after.down = False  # type: ignore[misc]  # that it is frozen is what is tested
    with pytest.raises(AttributeError):
        owned.changed(before, nothing=1)
