"""Fixtures of the builder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .repository import Repository
from .workshop import Workshop


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository in a folder of its own."""
    return Repository(tmp_path / "my app")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A builder with a store of its own."""
    return Workshop(tmp_path / "workshop")
