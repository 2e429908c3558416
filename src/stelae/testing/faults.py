"""Faults of a simulated platform: armed by whoever tells a world's life, counted when they really happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.units import Instant


class ActFault(StrEnum):
    """What can go wrong with one act."""

    FAILED = "act failed"  # it was not done, and that is certain
    NOT_DONE = "act not done"  # it was not done, but nobody knows: the platform does not answer
    LOST_REPLY = "lost reply"  # it was done, but nobody knows
    LATE_REPLY = "late reply"  # it was done at once, the answer takes long
    LATE_ACT = "late act"  # it takes long until it is done
    DUPLICATE = "duplicate"  # it was done, and the request arrives once more later


class LookFault(StrEnum):
    """What can go wrong with observations, for a while."""

    UNAVAILABLE = "platform unavailable"  # neither looks nor acts get through
    INCOMPLETE = "incomplete observation"
    STALE = "stale observation"  # what was true at an earlier look
    SLOW = "slow observation"
    MISSED = "missed event"  # nobody is told when something happens


class Point(StrEnum):
    """Where a controller can be killed."""

    BEFORE_ACT = "crash before act"
    AFTER_ACT = "crash after act"
    BEFORE_WRITE = "crash before write"
    AFTER_WRITE = "crash after write"


@dataclass(slots=True, kw_only=True)
class Crash:
    """Kill the controller at the *countdown*-th time from now that it comes to *point*.

    ``ghost`` is after how many seconds the act that was on its way is carried out all the same, None for never.
    """

    point: Point
    countdown: int = 1
    ghost: float | None = None


@dataclass(slots=True, kw_only=True)
class Faults:
    """What will go wrong. ``skip`` acts go well before the next of ``acts``. ``fired`` counts what did go wrong,
    by name; *die* is called where a controller is killed."""

    now: Callable[[], Instant]
    die: Callable[[], None] = lambda: None
    acts: list[tuple[ActFault, float]] = field(default_factory=list)
    skip: int = 0
    looks: dict[LookFault, Instant] = field(default_factory=dict)
    crash: Crash | None = None
    fired: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, times: int = 1) -> None:
        """Note that fault *name* happened."""
        if times:
            self.fired[name] += times

    def holds(self, fault: LookFault) -> bool:
        """True while *fault* is on."""
        return self.now() < self.looks.get(fault, 0)

    def next_act(self) -> tuple[ActFault | None, float]:
        """Take what happens to the act that begins now, and how many seconds it takes."""
        if not self.acts or self.skip > 0:
            self.skip -= 1
            return None, 0.0
        fault, seconds = self.acts.pop(0)
        self.count(fault)
        return fault, seconds

    def dies_at(self, point: Point) -> Crash | None:
        """Kill the controller if that is due here; then return how, and whoever asked must do nothing more."""
        crash = self.crash
        if crash is None or crash.point is not point:
            return None
        crash.countdown -= 1
        if crash.countdown > 0:
            return None
        self.crash = None
        self.count(point)
        self.die()
        return crash

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self.acts.clear()
        self.looks.clear()
        self.crash = None
