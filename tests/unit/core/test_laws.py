"""The laws that need no machine, and the proof that the tests of the others can fail.

A planted bug is one small change of the core, as a careless change would make it. Each must be found by the
random lives of ``test_random`` (or by the rollouts of ``test_rollouts``): a law whose test finds none of them
is not guarded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import converge, decide, gates
from stelae.core.folds import acts
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.allocation import Allocation
from stelae.domain.observation import Phase
from stelae.domain.state import Outcome
from stelae.testing.world import BrokenLaw
from tests.unit.core import test_random, test_rollouts
from tests.unit.core.fixtures import deployed, release


def test_no_verb_changes_a_running_instance() -> None:
    """Laws 1 and 10: instances start, get traffic, end and are removed; nothing else can be done to them. A set of
    them has a count, and nothing else of it can be changed."""
    of_sets = {"ensure-set", "set-traffic", "remove-set"}
    assert {verb.value for verb in Verb} == {"launch", "route", "stop", "kill", "remove", *of_sets}


def test_a_release_has_one_image_and_its_id_says_which() -> None:
    """Law 2."""
    one, other = release("v1"), release("v2")
    assert one.id != other.id
    assert replace(one, image=other.image).id == other.id
    assert replace(one, settings={"A": "1"}).id != one.id


def test_a_launch_names_a_release_and_never_changes_it() -> None:
    """Law 2: an instance id belongs to one release for ever."""
    made = deployed()
    for name in ("v2", "v3", "v1"):
        made.request(release(name))
        made.run()
    of: dict[str, str] = {}
    for _, event in made.log:
        if isinstance(event, ev.ActionIntended) and event.action.verb is Verb.LAUNCH:
            assert of.setdefault(event.action.instance, event.action.release) == event.action.release


def test_every_act_was_intended_first_and_has_an_outcome() -> None:
    """Law 5."""
    made = deployed()
    made.request(release("v2"))
    made.run()
    intended: list[int] = []
    for _, event in made.log:
        if isinstance(event, ev.ActionIntended):
            intended.append(event.action.number)
        elif isinstance(event, ev.ActionDone):
            assert event.number in intended
    assert intended == sorted(set(intended))
    assert made.env.pending == {}


def test_a_rollback_restores_the_settings_too() -> None:
    """Law 7."""
    made = deployed()
    before = made.env.releases[made.env.stable or release("v1").id]
    made.request(replace(before, settings={"LOG_LEVEL": "debug"}))
    made.run()
    name = made.request(before)
    made.run()
    assert made.env.deployments[name].outcome is Outcome.SUCCEEDED
    assert {thing.release for thing in made.things.values()} == {before.id}


def _ready_when_it_runs(instance: Any, seen: Any) -> bool:
    view = seen.instances.get(instance.id)
    return view is not None and view.phase is not Phase.EXITED


def _no_rollout_fails(*_: object) -> None:
    return None


def _actions_without_looking(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda target, env, seen: original(target, env, replace(seen, complete=True))


PLANTED: dict[str, tuple[object, str, Any]] = {
    "traffic for an instance that is not ready (law 6)": (converge, "_ready", _ready_when_it_runs),
    "stopped before it has drained (law 6)": (converge, "_drained", lambda *_: True),
    "the floor is forgotten in the table (law 6)": (converge, "_floor", lambda *_: 0),
    "the floor is forgotten where instances stop (law 6)": (converge, "_counts", lambda *_: False),
    "acts on an incomplete observation (law 11)": (
        converge, "actions", _actions_without_looking(converge.actions),
    ),
    "a gate that never passes (law 8)": (gates, "is_held", lambda *_: False),
    "a revert that never ends (law 8)": (gates, "reverted", lambda *_: False),
    "a failed candidate goes on (law 8)": (decide.failures, "failure", _no_rollout_fails),
    "ids are counted anew for each launch (law 2)": (
        acts, "with_item", lambda mapping, key, value: {**mapping, key: 1 if value == 2 else value},
    ),
    "nothing is ever removed (exact inventory)": (converge, "_ends", lambda *_: iter(())),
    "superseded instances are forgotten (exact inventory)": (converge, "_stops", lambda *_: iter(())),
}  # fmt: skip


def _every_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_random, "SEEDS", 15)
    for kind in ("recreate", "rolling", "blue-green", "canary"):
        test_random.test_random_lives_break_no_law(kind)
    _bad_release_is_reverted()
    test_rollouts.test_a_supersession_keeps_the_capacity_that_two_releases_share()
    test_rollouts.test_a_revert_keeps_a_worker_until_the_stable_one_works_again()


def _bad_release_is_reverted() -> None:
    made = deployed()
    made.behave(release("v2"), ready_after=None, exits_after=0)
    name = made.request(release("v2"))
    made.run(seconds=60)
    assert made.env.deployments[name].outcome is Outcome.REVERTED


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, replacement = PLANTED[bug]
    monkeypatch.setattr(module, name, replacement)
    with pytest.raises((BrokenLaw, AssertionError)):
        _every_test(monkeypatch)


def test_without_a_planted_bug_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    _every_test(monkeypatch)


def test_a_floor_of_the_strategy_is_what_protects_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Non-vacuity of the world's own check: without floors in the allocations it must still see less capacity."""
    made = deployed()
    made.env = replace(made.env, allocation=Allocation(floor={"web": 4, "worker": 1}))
    victim = next(name for name in made.things if name.startswith("web"))
    with pytest.raises(BrokenLaw):
        made.act(converge.Action(number=made.env.actions + 1, verb=Verb.ROUTE, table={victim: 256}))
