"""A fake controller on a real Unix socket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.controller.client import Client
from stelae.system.installation import Installation
from stelae.testing.service import FakeService, served


def new_installation(folder: str) -> Installation:
    return Installation(name="stapi", state=Path(folder) / "state", run=Path(folder) / "run", group="no-such-group")


@pytest.fixture
def installation() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="st-") as folder:  # short: a socket's path has 107 characters
        yield new_installation(folder)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture(scope="session")
def long_served() -> Iterator[tuple[FakeService, Installation]]:
    service = FakeService()
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        installation = new_installation(folder)
        with served(service, installation):
            yield service, installation


@pytest.fixture
def client(long_served: tuple[FakeService, Installation]) -> Client:
    return Client(long_served[1].socket)


@pytest.fixture
def behind(long_served: tuple[FakeService, Installation]) -> FakeService:
    """The fake controller that ``client`` talks to."""
    long_served[0].reset()
    return long_served[0]


@pytest.fixture
def cache(long_served: tuple[FakeService, Installation]) -> Path:
    return long_served[1].cache
