"""Two controllers of one installation: the one that was replaced can neither act nor record. All: ``tests/soak``."""

from __future__ import annotations

import pytest

from tests.real.takeover import take_over, wake_up_replaced

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("_seed")]


@pytest.mark.parametrize("point", ["action.route.before", "ledger.append.before:4"])
def test_a_controller_that_wakes_up_replaced_does_nothing_and_ends(point: str) -> None:
    assert wake_up_replaced(point), "no other act is under way there"


def test_a_controller_that_is_stopped_in_an_act_can_be_replaced() -> None:
    take_over("action.launch.after")
