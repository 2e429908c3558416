"""Node-RED, whose packages npm has: locked, built, run, looked into and made again. The others are in the soak."""

from __future__ import annotations

import pytest

from tests.real.apps import NODE_RED, machine_of, prove

pytestmark = [pytest.mark.real, pytest.mark.network, pytest.mark.timeout(900)]


def test_node_red() -> None:
    with machine_of(NODE_RED) as machine:
        prove(machine, NODE_RED)
