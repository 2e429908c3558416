"""What each part of the contract of a platform stands on: somebody who makes a subject and takes it away again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stelae.testing.contract import Subject


class Contract(ABC):
    """A part of the contract: tests, each of which is run on a subject of its own."""

    @abstractmethod
    def run(self, body: Callable[[Subject], Awaitable[None]]) -> None:
        """Run *body* on a new subject, and take everything away."""
