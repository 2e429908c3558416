"""What the limits of all instances come to: on every step of the way, warm ones and other environments too."""

from __future__ import annotations

from dataclasses import replace

from stelae.core import memory
from stelae.domain.allocation import Allocation, Holding
from stelae.domain.environment import EnvironmentId
from stelae.domain.state import EnvironmentState
from stelae.domain.units import MIB
from tests.unit.core.fixtures import release

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
