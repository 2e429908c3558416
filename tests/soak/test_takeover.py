"""A controller that is stopped at each point and replaced; see ``tests/real/takeover.py``."""

from __future__ import annotations

import pytest

from stelae.domain.action import Verb
from tests.real.takeover import take_over, wake_up_replaced

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("_seed")]

POINTS = [
    *(f"action.{verb}.{side}" for verb in Verb for side in ("before", "after")),
    *(f"ledger.append.{side}:{number}" for side in ("before", "after") for number in (2, 3, 4, 6)),
]
ALONE = {"action.launch.before", "action.route.before", "action.route.after", "action.stop.before"}
"""Where a blue-green deployment has no other act under way, so that the one that was replaced can wake up."""


@pytest.mark.parametrize("point", POINTS)
def test_a_controller_that_wakes_up_replaced_does_nothing_and_ends(point: str) -> None:
    awake = wake_up_replaced(point)
    assert awake or point not in ALONE, "no other act is under way there"


@pytest.mark.parametrize("point", POINTS)
def test_a_controller_that_is_stopped_can_be_replaced(point: str) -> None:
    take_over(point)
