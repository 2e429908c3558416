"""What ``make soak`` runs and ``make test`` does not: everything, at every point."""

from __future__ import annotations

from tests.real.conftest import _seed, pytest_collection_finish, pytest_collection_modifyitems

__all__ = ["_seed", "pytest_collection_finish", "pytest_collection_modifyitems"]
