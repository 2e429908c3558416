"""The time of decisions and of the record: it never goes back, and never stands."""

from __future__ import annotations

import pytest

from stelae.domain.units import HOUR, MINUTE, SECOND, Duration, Instant
from stelae.system import clock
from stelae.system.clock import OnwardClock

NOON: Instant = 1_796_040_000 * SECOND


class Machine:
    """A machine whose clock can be put forward and back."""

    def __init__(self) -> None:
        self.up: Duration = 0
        self.off: Duration = 0
        self.onward = OnwardClock(self.wall, lambda: self.up)

    def wall(self) -> Instant:
        return NOON + self.up + self.off


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_it_is_the_machines_clock_as_long_as_nobody_puts_that_back(machine: Machine) -> None:
    for off in (0, 3 * SECOND, HOUR):
        machine.off = off
        machine.up += MINUTE
        assert machine.onward() == machine.wall()
        assert machine.onward.ahead() == 0


@pytest.mark.parametrize("every", [7, SECOND, 30 * SECOND])
def test_it_goes_on_when_the_clock_is_put_back_and_is_right_again_in_the_end(machine: Machine, every: int) -> None:
    before = machine.onward()
    machine.off = -HOUR
    assert machine.onward() == before
    assert machine.onward.ahead() == HOUR
    for _ in range(1000):  # also when it is asked so often that each time is next to nothing
        machine.up += every
        machine.onward()
    assert machine.onward() - before == 1000 * every * 9 // 10
    machine.up = 10 * HOUR
    assert machine.onward() == machine.wall()
    assert machine.onward.ahead() == 0


def test_it_never_goes_back_however_often_the_clock_is_set(machine: Machine) -> None:
    last = machine.onward()
    for off in (-MINUTE, HOUR, -HOUR, -2 * HOUR, 0, 5 * SECOND, -5 * SECOND):
        machine.off = off
        assert machine.onward() >= last
        machine.up += 10 * SECOND
        assert machine.onward() >= last + 9 * SECOND
        last = machine.onward()


def test_it_begins_no_earlier_than_what_is_recorded(machine: Machine) -> None:
    machine.onward.not_before(NOON + HOUR)
    assert machine.onward() == NOON + HOUR
    machine.onward.not_before(NOON)
    machine.up += 10 * MINUTE
    assert machine.onward() == NOON + HOUR + 9 * MINUTE
    assert machine.onward.ahead() == HOUR - MINUTE


def test_the_real_clocks_go_on() -> None:
    first = clock.steady(), OnwardClock()()
    assert clock.steady() >= first[0] > 0
    assert abs(OnwardClock()() - first[1]) < MINUTE
