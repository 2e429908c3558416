"""Makes the tests of the core quick, and the same each time: the ``conftest.py`` of mutation testing's workplace."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from stelae.testing.world import World

World.run.__defaults__ = (3600, 3000)  # so many passes are enough for every test; a loop without end makes them all
os.environ.update(STELAE_CORE_SEEDS="12", STELAE_TREE="70")
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))  # a loop without end fills a list
settings.register_profile(
    "mutate", max_examples=30, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutate")


SECONDS = 12
"""So much processor time a test may take: what makes it endless is found then, however busy the machine is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that plant bugs of their own (they pass because something fails), and those of cost."""
    items[:] = [item for item in items if "planted" not in item.name and "test_scale" not in item.nodeid]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """End a test that takes too long."""
    signal.signal(signal.SIGPROF, lambda *_: pytest.fail(f"{item.name} takes too long"))
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
