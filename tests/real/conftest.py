"""Fixtures of the tests on real parts: a machine of its own, and the guestbook's image built once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.system.mount import mounts_below
from tests.real.machine import SEED, Machine
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop


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


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository in a folder of its own."""
    return Repository(tmp_path / "source")


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A builder with a store of its own, in which a build leaves nothing unfinished, and nothing mounted."""
    made = Workshop(tmp_path / "workshop")
    yield made
    assert made.leftovers() == []
    assert mounts_below(tmp_path) == ()
