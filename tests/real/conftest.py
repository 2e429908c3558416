"""Fixtures of the tests on real parts: a machine of its own, and the guestbook's image built once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.real.machine import SEED, Machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def _seed() -> None:
    """Build the example once, so that no test's time depends on the package archives."""
    if not (SEED / "images").is_dir():
        with Machine(seed=False) as machine:
            machine.use().start()
            machine.cli("build")
            machine.keep_seed()


@pytest.fixture
def machine(_seed: None) -> Iterator[Machine]:
    """A machine with its controller running and the guestbook's repository, nothing deployed."""
    with Machine() as made:
        yield made.use().start()
