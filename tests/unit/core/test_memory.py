"""What the limits of all instances come to: on every step of the way, warm ones and other environments too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stelae.core import memory
from stelae.domain.allocation import Allocation, Holding
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Refused
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.state import EnvironmentState
from stelae.domain.units import MIB
from tests.unit.core.fixtures import ROLLOUT, environment, release, state

OLD, NEW = release("v1"), release("v2")
RELEASES = {
    item.id: replace(item, processes=tuple(replace(process, memory=100 * MIB) for process in item.processes))
    for item in (OLD, NEW)
}


def held(serving: int, warm: int = 0, surge: int = 0) -> Allocation:
    holdings = [Holding(release=OLD.id, process="web", serving=serving, warm=warm)]
    if surge:
        holdings.append(Holding(release=NEW.id, process="web", serving=surge))
    return Allocation(holdings=tuple(holdings))


def test_the_step_that_needs_most_counts_with_its_warm_ones_and_its_surge() -> None:
    assert memory.needed(held(2, warm=3), RELEASES) == 500 * MIB
    assert memory.peak([held(2), held(2, surge=2), held(1, surge=2)], RELEASES) == 400 * MIB
    assert memory.peak([], RELEASES) == 0


def test_a_process_that_a_release_does_not_have_needs_nothing() -> None:
    assert memory.needed(Allocation(holdings=(Holding(release=OLD.id, process="gone", serving=9),)), RELEASES) == 0


def test_what_other_environments_hold_counts_and_this_one_does_not() -> None:
    one, other, empty = (
        EnvironmentState(id=EnvironmentId(name), allocation=allocation, releases=RELEASES)
        for name, allocation in (("a/one", held(2)), ("a/other", held(3, warm=1)), ("a/empty", Allocation()))
    )
    assert memory.of_others(one, [one, other, empty]) == 400 * MIB


def test_a_machine_needs_memory_for_its_own_system_and_for_what_runs_it() -> None:
    booted = {name: replace(it, disk=digest_of(b"disk")) for name, it in RELEASES.items()}
    assert memory.needed(held(2), booted) == 2 * memory.of_machine(100 * MIB)
    assert memory.of_guest(100 * MIB) == 100 * MIB + memory.GUEST
    assert memory.of_machine(100 * MIB) == memory.of_guest(100 * MIB) + memory.EMULATOR


MACHINES = replace(environment(), platform=PlatformChoice(kind=PlatformKind.VM))


def test_machines_that_do_not_fit_are_refused_and_containers_are_only_told_of() -> None:
    env = state(config=MACHINES)
    memory.admit(env, 60, 40, 100)
    memory.admit(state(), 60, 41, 100)
    with pytest.raises(Refused, match=r"need 1 MiB at the most, beside 2 MiB of other machines; .* has 2 MiB"):
        memory.admit(env, MIB, 2 * MIB, 2 * MIB)
    with pytest.raises(Refused, match=r"need 3 MiB at the most; this machine has 2 MiB"):
        memory.admit(env, 3 * MIB, 0, 2 * MIB)


def test_what_other_machines_take_counts_and_what_containers_may_take_does_not() -> None:
    one = EnvironmentState(id=EnvironmentId("a/one"), config=MACHINES, allocation=held(1), releases=RELEASES)
    other = replace(one, id=EnvironmentId("a/other"), allocation=held(2))
    local = replace(one, id=EnvironmentId("a/local"), config=environment(), allocation=held(4))
    assert memory.of_machines(one, [one, other, local]) == 200 * MIB


def test_at_rest_what_serves_or_what_is_to_counts_whichever_needs_more() -> None:
    small, large = RELEASES[OLD.id], RELEASES[NEW.id]
    large = replace(large, processes=tuple(replace(it, memory=300 * MIB) for it in large.processes))
    env = state(releases={OLD.id: small, NEW.id: large}, stable=OLD.id)
    assert memory.steady(env, {"web": 2, "worker": 1}) == 300 * MIB
    assert memory.steady(replace(env, rollout=replace(ROLLOUT, candidate=NEW.id)), {"web": 1}) == 300 * MIB
    assert memory.steady(replace(env, stable=None), {"web": 1}) == 0


def test_what_a_machine_needs_is_what_the_page_says() -> None:
    page = " ".join((Path(__file__).parents[3] / "docs" / "machines.md").read_text().split())
    guest, emulator = memory.GUEST // MIB, memory.EMULATOR // MIB
    assert f"`memory`, plus {guest} MiB for the system of the machine, plus {emulator} MiB for QEMU" in page
    assert f"a process of 256 MiB needs {memory.of_machine(256 * MIB) // MIB} MiB" in page
