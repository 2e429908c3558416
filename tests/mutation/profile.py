"""Makes the tests of the core quick, and the same each time: the ``conftest.py`` of mutation testing's workplace."""

from __future__ import annotations

import os
import resource

import pytest
from hypothesis import Phase, settings

from stelae.testing.world import World

World.run.__defaults__ = (3600, 3000)  # so many passes are enough for every test; a loop without end makes them all
os.environ.update(STELAE_CORE_SEEDS="20", STELAE_TREE="70")
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))  # a loop without end fills a list
settings.register_profile(
    "mutate", max_examples=30, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that plant bugs of their own: they pass because something fails."""
    items[:] = [item for item in items if "planted" not in item.name]
