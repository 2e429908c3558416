"""The contract of a platform is not vacuous: for each of its tests, a platform that breaks just that is found."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import converge
from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding
from stelae.domain.errors import Failed
from stelae.domain.observation import Observation, Phase
from stelae.testing import simulated
from stelae.testing.contract import PlatformContract
from stelae.testing.faults import LookFault
from stelae.testing.machine import Machine
from stelae.testing.requests import Counted
from stelae.testing.simulated import SimulatedPlatform
from stelae.testing.terminal import SimulatedTerminal
from stelae.testing.things import Thing
from tests.unit.simulation import test_contract

Wrap = Callable[[Any], Any]


def _tells_an_older_number(look_now: Any) -> Any:
    def wrong(self: Any, env: Any) -> Any:
        look = look_now(self, env)
        return replace(look, observation=replace(look.observation, applied=max(0, env.applied - 1)))

    return wrong


def _launches_twice(launch: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, site: Any, secrets: Any) -> None:
        said = site.logs.get(action.instance, [])
        site.things.pop(action.instance, None)
        launch(self, action, env, site, secrets)
        site.logs[action.instance] = [*said, *site.logs[action.instance]]

    return wrong


def _starts_what_has_ended(launch: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, site: Any, secrets: Any) -> None:
        thing = site.things.get(action.instance)
        if thing is not None and thing.ended is not None:
            del site.things[action.instance]
        launch(self, action, env, site, secrets)

    return wrong


def _ready_when_it_runs(_: Any) -> Any:
    return lambda self, now: Phase.READY if self.ended is None else Phase.EXITED


def _stops_by_force(_: Any) -> Any:
    return lambda self, environment, name, thing: self.end(environment, name, 143)


def _keeps_what_was_removed(carry_out: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, secrets: Any) -> None:
        if action.verb is Verb.REMOVE:
            self.sites["what is left"].things.update(self.site(env.id).things)
        carry_out(self, action, env, secrets)

    return wrong


def _adds_to_the_table(route: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, site: Any) -> None:
        route(self, replace(action, table={**site.table, **action.table}), env, site)

    return wrong


def _shares_alike(route: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, site: Any) -> None:
        route(self, replace(action, table=dict.fromkeys(action.table, 256)), env, site)

    return wrong


def _names_anew(look: Any) -> Any:
    def wrong(self: Any, environment: Any) -> Any:
        instances, table = look(self, environment)
        return {InstanceId(f"{name}-1"): seen for name, seen in instances.items()} | instances, table

    return wrong


def _counts_nothing(look: Any) -> Any:
    def wrong(self: Any, environment: Any) -> Any:
        instances, table = look(self, environment)
        return {name: replace(seen, connections=0) for name, seen in instances.items()}, table

    return wrong


def _empty_when_nobody_answers(observe: Any) -> Any:
    async def wrong(self: Any, env: Any) -> Any:
        if self._faults.holds(LookFault.UNAVAILABLE):
            return Observation(as_of=0, applied=env.applied)
        return await observe(self, env)

    return wrong


def _begins_anew(init: Any) -> Any:
    def wrong(self: Any, machine: Any, *more: Any, **named: Any) -> None:
        for site in machine.sites.values():
            site.table.clear()
        init(self, machine, *more, **named)

    return wrong


def _acts_for_everybody(_: Any) -> Any:
    return lambda self, action, env: self._machine.carry_out(action, env)


def _other_numbers(_: Any) -> Any:
    count = itertools.count(1)
    return lambda self, target, env, seen: tuple(
        replace(action, number=next(count)) for action in converge.actions(target, env, seen)
    )


def _acts_on_a_guess(_: Any) -> Any:
    return lambda self, target, env, seen: converge.actions(target, env, replace(seen, complete=True))


def _tells_nothing(_: Any) -> Any:
    async def wrong(self: Any, environment: Any, instance: Any, *, follow: bool) -> AsyncIterator[Any]:
        return
        yield

    return wrong


def _wakes_nobody(_: Any) -> Any:
    return lambda self, environment: None


def _forgets(_: Any) -> Any:
    async def wrong(self: Any, action: Any, env: Any) -> bool:
        return False

    return wrong


def _never_sure(_: Any) -> Any:
    async def wrong(self: Any, action: Any, env: Any) -> bool:
        return True

    return wrong


def _as_text(values: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any) -> Any:
        return {name: value.strip() for name, value in values(self, action, env).items()}

    return wrong


def _starts_without(values: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any) -> Any:
        with suppress(Failed):
            return values(self, action, env)
        return {}

    return wrong


def _counts_no_errors(traffic: Any) -> Any:
    return lambda self, began: replace(traffic(self, began), errors=0)


def _counts_anew(init: Any) -> Any:
    def wrong(self: Any, machine: Any, *more: Any, **named: Any) -> None:
        machine.lose_counts()
        init(self, machine, *more, **named)

    return wrong


def _routes_nobody(route: Any) -> Any:
    return lambda self, action, env, site: route(self, replace(action, routes=()), env, site)


def _keeps_old_routes(route: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, site: Any) -> None:
        route(self, replace(action, routes=action.routes or site.routes), env, site)

    return wrong


def _finds(when: Callable[[Any], bool]) -> Wrap:
    """Find something where that is true of the site."""

    def wrap(inspected: Any) -> Any:
        def wrong(machine: Any, env: Any, *more: Any, **named: Any) -> Any:
            found = inspected(machine, env, *more, **named)
            invented = Finding(kind=Drift.PROCESS, what="invented", instance=InstanceId("web-one-1"))
            return replace(found, findings=(*found.findings, invented)) if when(machine.site(env.id)) else found

        return wrong

    return wrap


def _finds_something_anyhow(inspected: Any) -> Any:
    return _finds(lambda _: True)(inspected)


def _finds_what_ends(inspected: Any) -> Any:
    return _finds(lambda site: any(thing.stopping for thing in site.things.values()))(inspected)


def _finds_nothing(inspected: Any) -> Any:
    return lambda *given, **named: replace(inspected(*given, **named), findings=())


def _found_it_before(inspected: Any) -> Any:
    return lambda *given, **named: replace(inspected(*given, **named), as_of=0)


def _looks_the_hard_way(inspected: Any) -> Any:
    def wrong(machine: Any, env: Any, *more: Any, **named: Any) -> Any:
        machine.site(env.id).table.popitem()
        return inspected(machine, env, *more, **named)

    return wrong


def _ends_with_nothing(end: Any) -> Any:
    return lambda self, environment, name, code: end(self, environment, name, 0)


def _keeps_what_is_said(launch: Any) -> Any:
    def wrong(self: Any, action: Any, env: Any, site: Any, secrets: Any) -> None:
        launch(self, action, env, site, secrets)
        site.logs.setdefault(action.instance, [(self.now(), "hello")])

    return wrong


def _ends_with_an_error(_: Any) -> Any:
    async def wrong(self: Any) -> None:
        self._machine.end(self._environment, self._instance, 129)

    return wrong


def _talks_to_what_is_gone(_: Any) -> Any:
    async def wrong(self: Any, environment: Any, instance: Any) -> Any:
        return SimulatedTerminal(self._machine, environment, instance)

    return wrong


BROKEN: dict[str, list[tuple[Any, str, Wrap]]] = {
    "what_is_launched_gets_ready_and_is_all_that_is_there": [(SimulatedPlatform, "look_now", _tells_an_older_number)],
    "an_act_that_is_repeated_by_its_number_changes_nothing_more": [(Machine, "_launch", _launches_twice)],
    "what_does_not_answer_is_not_ready": [(Thing, "phase", _ready_when_it_runs)],
    "how_an_instance_ended_is_told_and_it_is_not_started_again": [(Machine, "_launch", _starts_what_has_ended)],
    "an_instance_is_asked_to_end_and_ended_when_it_does_not": [(Machine, "_stop", _stops_by_force)],
    "an_instance_reads_its_secrets_byte_for_byte": [(SimulatedPlatform, "_values", _as_text)],
    "an_instance_whose_secret_cannot_be_read_does_not_start": [(SimulatedPlatform, "_values", _starts_without)],
    "what_is_removed_leaves_nothing": [(Machine, "carry_out", _keeps_what_was_removed)],
    "the_traffic_table_is_exactly_what_was_set": [(Machine, "_route", _adds_to_the_table)],
    "it_can_do_what_it_says": [(Machine, "_route", _shares_alike), (Machine, "look", _names_anew)],
    "an_instance_that_has_ended_gets_no_traffic": [(Machine, "_routable", lambda _: lambda *__: True)],
    "open_requests_are_counted_until_they_end": [(Machine, "look", _counts_nothing)],
    "what_cannot_be_asked_is_not_told_as_known": [(SimulatedPlatform, "observe", _empty_when_nobody_answers)],
    "the_next_controller_sees_what_the_last_one_left": [(SimulatedPlatform, "__init__", _begins_anew)],
    "a_controller_that_was_replaced_cannot_act": [(SimulatedPlatform, "_do", _acts_for_everybody)],
    "the_next_actions_are_a_function_of_what_is_known": [
        (SimulatedPlatform, "actions", _other_numbers), (SimulatedPlatform, "actions", _acts_on_a_guess),
    ],
    "the_output_of_an_instance_comes_whole_and_following_it_ends": [(SimulatedPlatform, "logs", _tells_nothing)],
    "the_end_of_an_instance_wakes_the_controller": [(SimulatedPlatform, "_happened", _wakes_nobody)],
    "a_run_is_started_once_and_its_end_and_output_are_told": [(Machine, "_launch", _launches_twice)],
    "whether_a_run_began_is_known_to_the_next_controller": [
        (SimulatedPlatform, "began", _forgets), (SimulatedPlatform, "began", _never_sure),
    ],
    "a_run_is_ended_by_force_when_it_does_not_end": [(Machine, "_stop", _stops_by_force)],
    "a_run_is_never_ready_and_gets_no_traffic": [(Thing, "phase", _ready_when_it_runs)],
    "a_person_talks_to_a_debug_session_and_its_exit_status_is_told": [
        (Machine, "end", _ends_with_nothing), (Machine, "_launch", _keeps_what_is_said),
    ],
    "the_end_of_what_is_typed_ends_a_session_without_a_terminal": [
        (SimulatedTerminal, "end", _ends_with_an_error),
    ],
    "a_session_outlives_its_controller_and_can_be_talked_to_and_ended_by_the_next": [
        (SimulatedPlatform, "attach", _talks_to_what_is_gone),
    ],
    "the_requests_of_each_release_are_counted": [
        (Counted, "traffic", _counts_no_errors), (SimulatedPlatform, "__init__", _counts_anew),
    ],
    "routes_come_before_the_weights": [(Machine, "_route", _routes_nobody), (Machine, "_route", _keeps_old_routes)],
    "a_user_stays_as_long_as_a_route_says_so": [
        (Machine, "_route", _routes_nobody), (Machine, "_route", _keeps_old_routes),
    ],
    "what_only_a_route_leads_to_drains_too": [(Machine, "look", _counts_nothing)],
    "what_runs_as_it_was_launched_has_not_drifted": [(simulated, "inspected", _finds_something_anyhow)],
    "an_inspection_says_when_it_was_made_and_changes_nothing": [
        (simulated, "inspected", _found_it_before), (simulated, "inspected", _looks_the_hard_way),
    ],
    "what_ends_or_is_asked_to_has_not_drifted": [(simulated, "inspected", _finds_what_ends)],
    "one_that_was_tampered_with_is_found_and_no_other": [
        (simulated, "inspected", _finds_nothing), (simulated, "inspected", _finds_something_anyhow),
    ],
}  # fmt: skip
"""By the test of the contract that must find it: what of the simulated platform is put in another way."""


def test_each_test_of_the_contract_is_here() -> None:
    assert {f"test_{name}" for name in BROKEN} == {name for name in dir(PlatformContract) if name.startswith("test_")}


@pytest.mark.parametrize(
    ("name", "bug"), [pytest.param(name, bug, id=bug[2].__name__) for name, bugs in BROKEN.items() for bug in bugs]
)
def test_a_platform_that_breaks_it_does_not_pass(
    name: str, bug: tuple[Any, str, Wrap], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, attribute, wrap = bug
    monkeypatch.setattr(owner, attribute, wrap(getattr(owner, attribute)))
    test = getattr(test_contract.TestSimulatedPlatform(), f"test_{name}")
    with pytest.raises((AssertionError, TimeoutError)):
        test()
