"""Records of a test's own, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from stelae.domain.environment import EnvironmentId
from stelae.domain.event import Scaled
from stelae.ledger.store import Draft, Ledger

START = 1_800_000_000_000_000


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def drafts(numbers: Sequence[int] | range) -> list[Draft]:
    """Return a draft for each number, all different."""
    environment = EnvironmentId("guestbook/production")
    return [
        Draft(event=Scaled(process="web", count=n), actor="ana", environment=environment, key=f"k{n}")
        for n in numbers
    ]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_ledger(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Ledger]]:
    """A function that opens the test's record; what is open at the end is closed."""
    opened: list[Ledger] = []

    def make(path: Path | None = None) -> Ledger:
        opened.append(Ledger.open(path or tmp_path / "ledger.db", clock=clock))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()
