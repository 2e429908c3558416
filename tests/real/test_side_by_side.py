"""Two installations on one machine: what happens to one does not touch the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stelae.cli.common import installation_from
from stelae.platforms.local.inventory import Inventory, list_all
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture
def both() -> Iterator[tuple[Machine, Machine]]:
    """Two installations that serve the same app under the same host name, each at its own port."""
    with ExitStack() as stack:
        machines = [stack.enter_context(Machine(seed=False)) for _ in range(2)]
        for number, machine in enumerate(machines, start=1):
            tiny.make(machine.start())
            tiny.version(machine, f"of machine {number}")
            machine.cli("deploy", "testing")
            machine.at_rest()
        yield machines[0], machines[1]


def serves(machine: Machine, number: int) -> None:
    assert tiny.ask(machine) == f"version of machine {number}"
    assert machine.differences_soon() == []
    assert machine.status()["state"] == "steady"


def test_two_installations_do_not_touch_each_other(both: tuple[Machine, Machine]) -> None:
    one, two = both
    assert one.installation.subnet != two.installation.subnet
    serves(one, 1)
    serves(two, 2)

    one.power_off()
    serves(two, 2)
    one.start()
    one.at_rest()
    serves(one, 1)
    serves(two, 2)

    one.cli("down")
    assert one.controller is not None
    assert one.controller.wait(30) == 0
    left = list_all(one.installation)
    assert left == Inventory(mounts=left.mounts)  # images may stay mounted
    serves(two, 2)
    two.kill()
    two.start()
    serves(two, 2)
    one.close()
    serves(two, 2)


def test_a_second_controller_of_the_same_installation_is_refused(both: tuple[Machine, Machine]) -> None:
    one, two = both
    own = one.installation
    assert installation_from(name=own.name).name == own.name
    done = one.cli(
        "controller", "run", "--name", own.name, "--state", own.state, "--run", own.run,
        "--port", own.http_port, "--subnet", own.subnet, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "controller" in done.stderr
    serves(one, 1)
    serves(two, 2)
