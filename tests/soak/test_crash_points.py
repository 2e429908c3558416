"""The controller dies at every point, in a deployment by every strategy, under load; see ``tests/real/crash.py``."""

from __future__ import annotations

import signal

import pytest

from stelae.domain.action import Verb
from stelae.system import points
from tests.real.crash import KINDS, Crash, survive
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SIDES = ("before", "after")
TIMES = {
    **{f"action.{verb}": (1, 2) for verb in Verb},
    "ledger.append": (1, 2, 3, 5, 8), "ledger.open": (1,), "ledger.copy": (1,),
}  # fmt: skip
"""At which of its passages of each thing the controller dies. The first append is the controller's own start, the
second the request; opening copies the log."""

ONCE = ("blue-green", "action.route")
"""All of the traffic is switched in one act."""

IN_A_DEPLOYMENT = [
    Crash(kind=kind, point=f"{thing}.{side}", number=number)
    for kind in KINDS
    for thing, numbers in TIMES.items()
    for side in SIDES
    for number in numbers
    if (kind, thing) != ONCE or number == 1
]
AT_THE_BEGINNING = [f"ledger.{write}.{side}" for write in ("create", "reserve") for side in SIDES]
PUBLISHING = [(f"ledger.publish.{side}", number) for side in SIDES for number in range(1, 5)]
"""The key, the entries, the tiles, the checkpoint."""

AT_THE_END = [f"ledger.projection.{side}" for side in SIDES]


def test_no_point_is_left_out() -> None:
    restoring = {
        f"ledger.restore.{side}" for side in SIDES
    }  # no controller runs then: unit/controller/test_restore.py
    assert {crash.point for crash in IN_A_DEPLOYMENT} | restoring | {
        *AT_THE_BEGINNING, *(point for point, _ in PUBLISHING), *AT_THE_END
    } == set(points.EVERY)  # fmt: skip


@pytest.mark.usefixtures("_seed")
@pytest.mark.parametrize("crash", IN_A_DEPLOYMENT, ids=str)
def test_a_deployment_is_ended_by_the_next_controller(crash: Crash) -> None:
    survive(crash)


@pytest.mark.parametrize("point", AT_THE_BEGINNING)
def test_a_record_that_was_not_begun_is_begun_again(point: str) -> None:
    with Machine(seed=False) as machine:
        assert machine.spawn(STELAE_CRASH_AT=point).wait(60) == -signal.SIGKILL
        machine.start()
        assert machine.client.post("/v1/verify-ledger")["size"] == 1
        assert machine.differences() == []


@pytest.mark.parametrize(("point", "number"), PUBLISHING)
def test_a_log_that_was_not_published_is_published_by_the_next(point: str, number: int) -> None:
    with Machine(seed=False) as machine:
        assert machine.spawn(STELAE_CRASH_AT=f"{point}:{number}").wait(60) == -signal.SIGKILL
        machine.start()
        assert machine.client.post("/v1/verify-ledger")["size"] == 2
        assert machine.differences() == []


@pytest.mark.parametrize("point", AT_THE_END)
def test_a_controller_that_dies_while_it_ends_has_lost_nothing(point: str) -> None:
    with Machine(seed=False) as machine:
        controller = machine.start(STELAE_CRASH_AT=point).controller
        assert controller is not None
        controller.terminate()
        assert controller.wait(60) == -signal.SIGKILL
        machine.start()
        assert machine.client.post("/v1/verify-ledger")["size"] == 2
        assert machine.differences() == []
