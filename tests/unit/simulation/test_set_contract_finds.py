"""The contract of a platform that keeps sets is not vacuous: a platform that breaks just one promise is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Failed
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.state import EnvironmentState
from stelae.platforms.port import Capability
from stelae.testing import simulated_sets
from stelae.testing.cluster import Cluster, Pod
from stelae.testing.contract_sets import Sets
from stelae.testing.simulated_sets import SimulatedSets
from tests.unit.simulation import test_set_contract

Change = Callable[[Observation], Observation]


def seen_as(change: Callable[[Seen], Seen]) -> Change:
    def whole(seen: Observation) -> Observation:
        return replace(seen, instances={name: change(one) for name, one in seen.instances.items()})

    return whole


def a_word_for(phase: Phase, other: Phase) -> Change:
    return seen_as(lambda one: replace(one, phase=other) if one.phase is phase else one)


def with_all(seen: Observation) -> Observation:
    return replace(seen, table={one.id: 256 for one in seen.instances.values() if one.phase is Phase.READY})


def without_exits(seen: Observation) -> Observation:
    return replace(seen, instances={k: one for k, one in seen.instances.items() if one.phase is not Phase.EXITED})


def one_name(seen: Observation) -> Observation:
    """A restart is told as the same instance."""
    return replace(seen, instances={(n := InstanceId(k.partition(".")[0])): replace(one, id=n)
                                    for k, one in seen.instances.items()})  # fmt: skip


LOOKS: Mapping[str, tuple[str, Change]] = {
    "its node is not told": (
        "test_a_set_gets_ready_and_is_all_that_is_there",
        seen_as(lambda one: replace(one, node="")),
    ),
    "the sets are not told": (
        "test_a_set_gets_ready_and_is_all_that_is_there",
        lambda seen: replace(seen, sets={key: count + 1 for key, count in seen.sets.items()}),
    ),
    "all that is ready has traffic": ("test_a_set_gets_ready_and_is_all_that_is_there", with_all),
    "what runs is ready": (
        "test_what_does_not_answer_is_not_ready_and_gets_no_traffic",
        a_word_for(Phase.STARTING, Phase.READY),
    ),
    "nothing says why": (
        "test_what_does_not_answer_is_not_ready_and_gets_no_traffic",
        seen_as(lambda one: replace(one, problem="")),
    ),
    "exits are not told": ("test_a_restart_in_place_is_an_exit_and_another_instance", without_exits),
    "a restart is the same instance": ("test_a_restart_in_place_is_an_exit_and_another_instance", one_name),
    "another exit status": (
        "test_a_restart_in_place_is_an_exit_and_another_instance",
        seen_as(lambda one: replace(one, exit=one.exit and Exit(code=1, at=one.exit.at))),
    ),
    "what is set is not told": (
        "test_requests_go_to_the_releases_that_they_were_given",
        lambda seen: replace(seen, weights={}),
    ),
    "shares are equal": (
        "test_weights_are_exact_where_the_platform_says_so",
        lambda seen: replace(seen, table=dict.fromkeys(seen.table, 256)),
    ),
    "the last act is not told": (
        "test_a_set_gets_ready_and_is_all_that_is_there",
        lambda seen: replace(seen, applied=seen.applied - 1),
    ),
}


def check(test: str, subject: type[Sets] = test_set_contract.TestExact) -> None:
    getattr(subject(), test)()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stelae.testing.hand.PATIENCE", 3.0)


@pytest.mark.parametrize("bug", LOOKS)
def test_a_platform_that_tells_something_else_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test, change = LOOKS[bug]
    check(test)
    observe = SimulatedSets.observe

    async def changed(self: SimulatedSets, env: EnvironmentState) -> Observation:
        return change(await observe(self, env))

    monkeypatch.setattr(SimulatedSets, "observe", changed)
    with pytest.raises(AssertionError):
        check(test)


def _acts_twice(self: Cluster, key: Any, action: Action, env: EnvironmentState, now: int) -> None:
    self.sets[key] = self.sets.get(key, 0) + action.count


def _starts_anew(self: Cluster, key: Any, action: Action, env: EnvironmentState, now: int) -> None:
    for pod in [pod for pod in self.pods.values() if pod.key == key]:
        self.end(pod, now)
    self.sets[key] = action.count


def _spares_victims(self: Cluster, key: Any, action: Action, env: EnvironmentState, now: int) -> None:
    self.sets[key] = action.count
    for pod in self.pods.values():
        pod.cheap = pod.incarnation not in action.victims


ACTS: Mapping[str, tuple[str, Callable[..., None]]] = {
    "an act counts each time": ("test_an_act_that_is_repeated_by_its_number_changes_nothing_more", _acts_twice),
    "all begin anew": ("test_more_and_fewer_touch_no_other_instance", _starts_anew),
    "victims stay": ("test_more_and_fewer_touch_no_other_instance", _spares_victims),
}


@pytest.mark.parametrize("bug", ACTS)
def test_a_platform_that_does_something_else_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test, ensure = ACTS[bug]
    monkeypatch.setattr(Cluster, "_ensure", ensure)
    with pytest.raises(AssertionError):
        check(test)


def test_what_is_to_end_and_gets_requests_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pod, "is_ready", lambda self, now: self.phase(now) is Phase.READY)
    with pytest.raises(AssertionError):
        check("test_what_is_to_end_gets_no_traffic")


def test_a_set_that_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out = Cluster.carry_out

    def keeps(self: Cluster, action: Action, env: EnvironmentState, now: int) -> None:
        if action.verb is not Verb.REMOVE_SET:
            carry_out(self, action, env, now)

    monkeypatch.setattr(Cluster, "carry_out", keeps)
    with pytest.raises(AssertionError):
        check("test_what_is_taken_away_leaves_nothing")


def test_a_silent_platform_that_is_taken_at_its_word_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedSets, "_reach", lambda self: None)
    with pytest.raises(AssertionError):
        check("test_what_cannot_be_asked_is_not_told_as_known")


def test_a_controller_that_acts_after_it_was_replaced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_sets, "Conflict", Failed)
    with pytest.raises((AssertionError, Failed)):
        check("test_the_next_controller_sees_the_same_and_the_one_before_does_nothing_more")


def test_secrets_that_are_not_given_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_sets, "values_of", lambda source, release: {})
    tests = ("test_instances_read_their_secrets_byte_for_byte", "test_a_set_whose_secret_cannot_be_read_is_not_made")
    for test in tests:
        with pytest.raises((AssertionError, TimeoutError)):
            check(test)


def test_capabilities_that_nobody_has_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedSets, "capabilities", property(lambda self: frozenset({Capability.SECRETS})))
    with pytest.raises(AssertionError):
        check("test_weights_are_exact_where_the_platform_says_so")


def test_nothing_here_is_a_fault_of_the_tests() -> None:
    """Each test of the contract that is named here passes on the platform as it is."""
    for name in {test for test, _ in (*LOOKS.values(), *ACTS.values())}:
        check(name)
