"""Drift: any difference between an instance and its release, or between what a platform holds and the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.allocation import InstanceId
from stelae.domain.units import Instant


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
    looked at; ``missed`` says of the others why not. Of what is in neither nothing is known."""

    as_of: Instant
    findings: tuple[Finding, ...] = ()
    inspected: frozenset[InstanceId] = frozenset()
    missed: Mapping[InstanceId, str] = field(default_factory=dict)
