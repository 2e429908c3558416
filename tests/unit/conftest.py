"""What holds for every unit test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from stelae.controller import log_lines

# How long one example takes is no promise, and other tests run at the same time.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _log_as_the_controller_does() -> Iterator[None]:
    """A traceback with the values of all variables takes seconds, in which what is tested runs out of time."""
    before = structlog.get_config()
    log_lines.configure()
    yield
    structlog.configure(**before)
