"""Drift: any difference between an instance and its release, or between what a platform holds and the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.allocation import InstanceId
from stelae.domain.units import MINUTE, Duration, Instant

WINDOW: Duration = 10 * MINUTE
"""What drifted within this time counts together: see ``Storm``."""


class Drift(StrEnum):
    """What differs."""

    LAYER = "layer"  # a file of the image is not what its digest says, or somebody wrote to it
    MOUNT = "mount"  # something is mounted that the release does not have, or is missing, or otherwise
    PROCESS = "process"  # a process that is not the image's, or that came in from outside
    CODE = "code"  # the program of a process was changed in memory
    SETTINGS = "settings"  # environment, arguments, rights, limits or control group
    NETWORK = "network"  # addresses, routes, rules
    MONITOR = "monitor"  # nobody watches it any more: its end would not be told
    ROUTING = "routing"  # the proxy's live configuration is not what was recorded
    UNKNOWN = "unknown"  # an instance that no event explains


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference. ``what`` says it in a sentence that stays the same as long as the difference does; the lines of
    ``evidence`` need not. ``instance`` is "" for what is of the whole environment (and so replaced by nothing)."""

    kind: Drift
    what: str
    instance: InstanceId = InstanceId("")
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one look at all running instances of an environment found. ``inspected`` are those of which each part was
    looked at; ``missed`` says of the others why not, and ``routing_missed`` why the traffic was not looked at. Of
    what is in none of them nothing is known."""

    as_of: Instant
    findings: tuple[Finding, ...] = ()
    inspected: frozenset[InstanceId] = frozenset()
    missed: Mapping[InstanceId, str] = field(default_factory=dict)
    routing_missed: str = ""


class Answer(StrEnum):
    """What is done about an instance that drifted. It is never made what it was."""

    REPLACE = "replace"  # a new one of the same release gets ready, and then it is drained and ended
    REPORT = "report"  # it is recorded and told, and goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPolicy:
    """What an environment does about drift. When more than ``storm`` percent of the instances that should serve, and
    more than one, drifted within ``WINDOW``, nothing more is replaced until a person says so."""

    answer: Answer = Answer.REPLACE
    storm: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """A difference that is recorded and not over; ``instance`` is "" for one of the whole environment."""

    drift: Drift
    what: str
    since: Instant
    evidence: tuple[str, ...] = ()
    instance: InstanceId = InstanceId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """So many instances drifted, ``of`` those that should serve, that nothing more is replaced."""

    at: Instant
    found: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftState:
    """What is recorded of drift in an environment, beside what its instances have of their own.

    ``findings`` are of no instance, or of a run, which is replaced by nothing. ``recent`` says of the instances that
    drifted within ``WINDOW`` before the last one did, when; those that were replaced since are among them.
    """

    findings: tuple[Drifted, ...] = ()
    recent: Mapping[InstanceId, Instant] = field(default_factory=dict)
    storm: Storm | None = None
