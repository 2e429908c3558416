"""Fixtures of the tests on real parts: a machine of its own, and the guestbook's image built once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.system.mount import mounts_below
from tests.real.keeping import CACHE
from tests.real.machine import SEED, Machine
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop

LONG = ("test_main_job", "test_crash_points", "test_crash", "test_reproducible", "test_dockerfile", "test_takeover")
"""The files that take longest: they begin first, so that those who run tests side by side end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the example once, before the first test, so that no test's time depends on the package archives or on who
    else builds it: processes that run tests side by side wait for the one that does."""
    wanted = any("_seed" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly or os.geteuid() != 0:
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (SEED / "images").is_dir():
            with Machine(seed=False) as machine:
                machine.use().start()
                machine.cli("build")
                machine.keep_seed()


@pytest.fixture(scope="session")
def _seed() -> None:
    """Says that a test begins with what ``pytest_collection_finish`` has built."""


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
