"""Debug sessions whose person is gone when the controller comes back: ended after a while, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.real import tiny
from tests.real.machine import Machine
from tests.real.test_debug import ENDS_WHEN_ASKED, at_terminal, ended, name_in


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(seed=False) as made:
        made.start()
        tiny.make(made)
        made.cli("deploy", "testing", "--image", made.json("build")["image"])
        yield made


def test_a_person_and_a_controller_that_are_killed(machine: Machine) -> None:
    with at_terminal(machine, *ENDS_WHEN_ASKED) as person:
        name = name_in(person.until("here"))
        machine.kill()
        person.program.kill()
    machine.start()
    found = ended(machine, name)
    assert (found["outcome"], found["reason"]) == ("cancelled", "its terminal went away")
    assert machine.differences_soon() == []


def test_a_limit_that_passes_while_no_controller_runs(machine: Machine) -> None:
    """conmon ends it by itself, some time after its limit."""
    words = ("--for", "1s", "--", "/app/busybox", "sh", "-c", "trap '' TERM; echo here; sleep 600")
    with at_terminal(machine, *words) as it:
        name = name_in(it.until("here"))
        machine.kill()
        it.program.kill()
        exit_file = machine.installation.run / "exits" / f"tiny.testing.{name}"
        _until(exit_file.exists)
    machine.start()
    assert ended(machine, name)["outcome"] == "ended"
    assert machine.differences_soon() == []


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.1)
