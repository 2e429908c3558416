"""A controller that dies at a point of ``stelae.system.points``, on real parts: one crash a verb and one at a write.

All points with all strategies are in ``tests/soak``.
"""

from __future__ import annotations

import subprocess

import pytest

from stelae.system.mount import mount
from tests.real.busybox import ENVIRONMENT
from tests.real.crash import Crash, survive
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SAMPLE = (
    Crash(kind="blue-green", point="action.launch.after", number=2),
    Crash(kind="rolling", point="action.route.before", number=2),
    Crash(kind="recreate", point="action.stop.after"),
    Crash(kind="rolling", point="action.kill.before"),
    Crash(kind="blue-green", point="action.remove.after"),
    Crash(kind="rolling", point="ledger.append.after", number=2),
)


@pytest.mark.usefixtures("_seed")
@pytest.mark.parametrize("crash", SAMPLE, ids=str)
def test_a_controller_that_dies_here_leaves_nothing_behind(crash: Crash) -> None:
    survive(crash)


def test_what_nobody_recorded_is_found() -> None:
    """The check of the inventory can fail: each kind of thing that a crash could leave is seen."""
    with Machine(seed=False) as machine:
        machine.start()
        assert machine.differences() == []
        run = machine.installation.run
        (run / "instances" / ENVIRONMENT / "left-1").mkdir(parents=True)
        (run / "exits").mkdir(exist_ok=True)
        (run / "exits" / "shop.testing.left-2").touch()
        (run / "mounts" / "roots" / "x").mkdir(parents=True)
        for _ in range(2):
            mount("none", run / "mounts" / "roots" / "x", "tmpfs")
        subprocess.run(["setsid", "--fork", "sh", "-c", f"sleep 20; echo {run}"], check=True)
        found = "\n".join(machine.differences())
        left = (
            "folders: shop/testing/left-1",
            "exit status of shop.testing.left-2",
            "mounted 2 times",
            "nobody's: sh",
        )
        assert [what for what in left if what not in found] == [], found
