"""Faults of a simulated platform: armed by whoever tells a world's life, counted when they really happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.units import Instant
from stelae.system.points import Killed


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
    UNCOUNTED = "uncounted observation"  # without what the router counted


class Point(StrEnum):
    """Where a controller can be killed: the points of ``stelae.system.points``, each kind of which is one here."""

    BEFORE_ACT = "crash before act"
    AFTER_ACT = "crash after act"
    BEFORE_WRITE = "crash before write"
    AFTER_WRITE = "crash after write"


def kind_of(point: str) -> Point | None:
    """Return of which kind the point called *point* is, None for one at which no simulated controller is killed."""
    thing, _, side = point.rpartition(".")
    if thing == "ledger.append":
        return Point.BEFORE_WRITE if side == "before" else Point.AFTER_WRITE
    if thing.startswith("action."):
        return Point.BEFORE_ACT if side == "before" else Point.AFTER_ACT
    return None


@dataclass(slots=True, kw_only=True)
class Crash:
    """Kill the controller at the *countdown*-th time from now that it comes to *point*.

    With ``ghost`` it is killed while the act is on its way, and so many seconds later the act is carried out all the
    same.
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

    def come_to(self, point: str) -> None:
        """Kill the controller if that is due at *point*: the handler for ``stelae.system.points``."""
        kind = kind_of(point)
        on_its_way = kind is Point.BEFORE_ACT and self.crash is not None and self.crash.ghost is not None
        if kind is not None and not on_its_way and self._dies_at(kind):
            raise Killed

    def ghost(self) -> float | None:
        """Kill the controller if that is due while an act is on its way; then return after how many seconds the act
        arrives."""
        seconds = self.crash.ghost if self.crash else None
        return None if seconds is None or not self._dies_at(Point.BEFORE_ACT) else seconds

    def _dies_at(self, point: Point) -> bool:
        crash = self.crash
        if crash is None or crash.point is not point:
            return False
        crash.countdown -= 1
        if crash.countdown > 0:
            return False
        self.crash = None
        self.count(point)
        self.die()
        return True

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self.acts.clear()
        self.looks.clear()
        self.crash = None
