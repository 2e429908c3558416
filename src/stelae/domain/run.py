"""Runs of jobs: each is an instance that is launched once, and never again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.allocation import InstanceId
from stelae.domain.job import DEFAULT_TIMEOUT
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId
from stelae.domain.units import Duration, Instant

COMMAND = "run"
"""What stands in a run's id where it is of a command and not of a job."""

DEBUG = "debug"
"""What stands in the id of a debug session."""


class RunOutcome(StrEnum):
    """How a run ended. Only ``SUCCEEDED`` lets a deployment go on."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    ENDED = "ended"  # a debug session, by itself, whatever its exit status is
    UNKNOWN = "unknown"  # nobody can say whether it ran, or how it ended: a person decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The size of a person's terminal, in characters, and what it is (``TERM``)."""

    rows: int
    columns: int
    term: str = "xterm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Debug:
    """A debug session: a run that is a copy of ``instance``, with its ``process``'s limits, for one person.

    ``window`` is the terminal that its program gets when it starts, None where it talks through pipes. ``lent`` says
    that it has tools beside those of its image. What is typed and shown is kept nowhere.
    """

    instance: InstanceId
    process: str
    reason: str = ""
    window: Window | None = None
    lent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a job of a release (or of a ``command``, then ``job`` is ""), from its request on.

    ``id`` is that of its instance. ``deployment`` and ``step`` say for which rollout it runs: before its traffic
    (-1), or as the gate of a step; "" when a person asked. ``launched_at`` is when its launch was intended, after
    which it is never launched again; ``started`` that it runs or ran, ``failed`` why it certainly never did, and
    ``doubt`` why nobody knows. ``ending`` is the outcome that it is being ended with, and ``reason`` why.
    ``debug`` is None but of a debug session.
    """

    id: InstanceId
    release: ReleaseId
    job: str
    command: tuple[str, ...]
    actor: str
    requested_at: Instant
    timeout: Duration = DEFAULT_TIMEOUT
    irreversible: bool = False
    deployment: str = ""
    step: int = -1
    key: str = ""
    launched_at: Instant | None = None
    started: bool = False
    failed: str = ""
    doubt: str = ""
    ending: RunOutcome | None = None
    reason: str = ""
    stopped_at: Instant | None = None  # when it was asked to end
    killed_at: Instant | None = None
    outcome: RunOutcome | None = None
    ended_at: Instant | None = None
    exit: Exit | None = None
    removed: bool = False  # nothing of it is left on the machine but its output
    debug: Debug | None = None

    @property
    def label(self) -> str:
        """What it is of, in a word: a job's name, ``run`` or ``debug``."""
        return self.job or (COMMAND if self.debug is None else DEBUG)

    @property
    def took_place(self) -> bool:
        """True unless it is certain that nothing of it ever ran."""
        return self.launched_at is not None and not self.failed
