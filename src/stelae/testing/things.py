"""What is true of the instances of a simulated world, whatever a platform says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stelae.domain.drift import Drift
from stelae.domain.observation import Exit, Phase
from stelae.domain.release import ReleaseId
from stelae.domain.units import MILLISECOND, SECOND, Duration, Instant

OWN = "a process runs a file that is not of the image"
"""How an instance differs whose own program makes it."""


class BrokenLaw(AssertionError):
    """An act broke a law of the design."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How instances of a release behave: None means never. ``drains`` is how long its connections stay open.

    ``flaps`` is how long an instance is ready, and then is not, in turns; ``stops_after`` how long it takes to
    end when it is asked to. ``job_after`` is how long its jobs run, and ``job_code`` how they end.
    ``drifts_after`` is how long an instance is what its release says, before its own program makes it something else.
    Of the requests that it answers ``errors`` millionths fail; an answer ``takes`` so long, the ``slowest`` fiftieth
    longer.
    """

    ready_after: Duration | None = 50 * MILLISECOND
    exits_after: Duration | None = None
    exit_code: int = 1
    unready_after: Duration | None = None
    flaps: Duration | None = None
    drains: Duration = 0
    stops_after: Duration = 0
    ignores_term: bool = False
    job_after: Duration | None = 100 * MILLISECOND
    job_code: int = 0
    errors: int = 0
    takes: Duration = 4 * MILLISECOND
    slowest: Duration = 40 * MILLISECOND
    drifts_after: Duration | None = None

    @property
    def healthy(self) -> bool:
        """True when its instances get ready and stay so, and stay what they are."""
        ills = (self.exits_after, self.unready_after, self.flaps, self.drifts_after)
        return self.ready_after is not None and ills == (None,) * 4

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of bad behaviour that this is."""
        slow = self.ready_after is not None and self.ready_after >= SECOND
        found = {
            "never ready": self.ready_after is None,
            "slow start": slow,
            "exit by itself": self.exits_after is not None,
            "gets unready": self.unready_after is not None,
            "flapping health": self.flaps is not None,
            "long connections": self.drains >= SECOND,
            "ignores SIGTERM": self.ignores_term,
            "drifts by itself": self.drifts_after is not None,
        }
        return tuple(name for name, holds in found.items() if holds)

    @property
    def job_kinds(self) -> tuple[str, ...]:
        """The kinds of bad behaviour that its jobs show."""
        if self.job_after is None:
            return ("job hangs",)
        return ("job fails",) if self.job_code else ("job succeeds",)


@dataclass(slots=True, kw_only=True)
class Thing:
    """What is true of one instance in the world. ``secrets`` are the values that it was given; ``differences`` what
    was done to it from outside, in words, and ``gone`` what of that is not so any more."""

    release: ReleaseId
    process: str
    born: Instant
    behaviour: Behaviour
    ended: Exit | None = None
    unrouted_at: Instant | None = None
    stopping: bool = False
    ends_at: Instant | None = None
    run: bool = False
    debug: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    differences: dict[str, Drift] = field(default_factory=dict)
    gone: dict[str, Drift] = field(default_factory=dict)

    def phase(self, now: Instant) -> Phase:
        """Return what a probe at *now* would find."""
        if self.ended is not None:
            return Phase.EXITED
        age, how = now - self.born, self.behaviour
        if self.run:
            return Phase.STARTING
        if how.ready_after is None or age < how.ready_after:
            return Phase.STARTING
        if how.unready_after is not None and age >= how.unready_after:
            return Phase.UNREADY
        if how.flaps is not None and (age - how.ready_after) // how.flaps % 2:
            return Phase.UNREADY
        return Phase.READY

    def differs(self, now: Instant) -> dict[str, Drift]:
        """Return how it differs from its release, in words."""
        after = self.behaviour.drifts_after
        by_itself = after is not None and now - self.born >= after
        return {**self.differences, **({OWN: Drift.PROCESS} if by_itself else {})}

    def age_to(self, now: Instant) -> None:
        """Let happen what was to happen up to *now*."""
        limit, code = self.behaviour.exits_after, self.behaviour.exit_code
        if self.run:
            limit, code = self.behaviour.job_after, self.behaviour.job_code
        if self.debug:
            limit = None  # it ends when it is told to
        if self.ended is not None:
            return
        if self.ends_at is not None and now >= self.ends_at:
            self.ended = Exit(code=143, at=self.ends_at)
        elif limit is not None and now - self.born >= limit:
            self.ended = Exit(code=code, at=self.born + limit, last_lines=("it broke",))

    def next_change(self, now: Instant) -> Instant | None:
        """Return when something happens to it next by itself."""
        if self.ended is not None:
            return None
        how = self.behaviour
        job = () if self.debug else (how.job_after,)
        spans = job if self.run else (how.ready_after, how.exits_after, how.unready_after)
        moments = [self.born + after for after in spans if after]
        if self.ends_at is not None:
            moments.append(self.ends_at)
        if how.flaps is not None and how.ready_after is not None and not self.run:
            turns = max(0, now - self.born - how.ready_after) // how.flaps
            moments.append(self.born + how.ready_after + (turns + 1) * how.flaps)
        return min((at for at in moments if at > now), default=None)
