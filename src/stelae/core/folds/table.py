"""The table of folds: which function folds which kind of event. One module of this package a topic enters its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stelae.domain.event import Event
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant

Fold = Callable[[EnvironmentState, Any, Instant, str], EnvironmentState]
"""The state, the event, when it happened and by whom give the next state."""

FOLDS: dict[type[Event], Fold] = {}


def folds(kind: type[Event]) -> Callable[[Fold], Fold]:
    """Return a decorator that enters a function as the fold of *kind*."""

    def register(fold: Fold) -> Fold:
        FOLDS[kind] = fold
        return fold

    return register
