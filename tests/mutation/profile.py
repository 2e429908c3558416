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
os.environ.update(STELAE_CORE_SEEDS="6", STELAE_TREE="70")
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))  # a loop without end fills a list
settings.register_profile(
    "mutate", max_examples=20, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutate")


SECONDS = 12
"""So much processor time a test may take: what makes it endless is found then, however busy the machine is."""


LEFT_OUT = (
    "planted", "take_no_more_than", "flaps_for_an_hour", "table_that_does_not_last", "deploying_by_turns",
    "what_a_plan_shows", "the_last_releases_are_kept", "young_releases_are_kept",
)  # fmt: skip
"""Tests that plant bugs of their own (they pass because something fails), that count what something costs, and that
take long and find nothing that others do not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is too slow for thousands of runs."""
    items[:] = [item for item in items if not any(part in item.nodeid for part in LEFT_OUT)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """End a test that takes too long."""
    signal.signal(signal.SIGPROF, lambda *_: pytest.fail(f"{item.name} takes too long"))
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
