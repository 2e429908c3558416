"""Observations: what a platform says is there. Unknown is not healthy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.allocation import InstanceId
from stelae.domain.release import ReleaseId
from stelae.domain.traffic import Traffic
from stelae.domain.units import Duration, Instant

SetKey = tuple[ReleaseId, str]
"""A set of instances: of one release, and of its process of that name."""


class Phase(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"  # runs, has not been ready yet
    READY = "ready"  # runs, and its last probe succeeded
    UNREADY = "unready"  # runs, was ready, and its probes fail now
    EXITED = "exited"  # ended; what it left is still there to be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How an instance ended. ``code`` is its exit status, 128 + n when signal n ended it, -1 when nobody
    knows (the machine was switched off, or the instance's monitor died)."""

    code: int
    at: Instant
    out_of_memory: bool = False
    last_lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.out_of_memory:
            return "ran out of memory"
        if self.code < 0:
            return "is gone"
        if self.code > 128:
            return f"was ended by signal {self.code - 128}"
        return f"exited with status {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One instance as the platform sees it now. ``connections`` are those open through the router; ``cpu`` is the
    processor time that it has used since it was launched, None where the platform cannot tell.

    A platform that keeps sets launches by itself: it says of which ``release`` and ``process`` an instance is, on
    which ``node`` it runs, and with ``ending`` that it was asked to end.
    """

    id: InstanceId
    phase: Phase
    connections: int = 0
    address: str = ""
    exit: Exit | None = None
    problem: str = ""  # why the last probe failed, in words
    last_lines: tuple[str, ...] = ()  # of the output of a candidate that is about to be given up
    cpu: Duration | None = None
    release: ReleaseId = ReleaseId("")
    process: str = ""
    node: str = ""
    ending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a platform holds for one environment.

    ``applied`` is the number of the last action that the platform had carried out when it looked;
    ``complete`` is false when a part could not be asked. ``table`` is what the router really has:
    instance to weight, only those that can get new requests (weight 0: by a route only). ``traffic`` is what the
    router counted of each release, since it began to count.

    Of a platform that keeps sets, ``sets`` says how many instances each is to have, by release and process, and
    ``weights`` what the traffic was last set to, None where it was not. ``edited`` are the sets that somebody changed
    or took a part of, and ``strays`` what has the marks of an instance and is in no set: it is no instance.
    ``refused`` says of a set why the platform makes no instances for it.
    """

    as_of: Instant
    applied: int
    complete: bool = True
    instances: Mapping[InstanceId, Seen] = field(default_factory=dict)
    table: Mapping[InstanceId, int] = field(default_factory=dict)
    traffic: Mapping[ReleaseId, Traffic] = field(default_factory=dict)
    sets: Mapping[SetKey, int] = field(default_factory=dict)
    weights: Mapping[ReleaseId, int] | None = None
    edited: frozenset[SetKey] = frozenset()
    strays: frozenset[InstanceId] = frozenset()
    refused: Mapping[SetKey, str] = field(default_factory=dict)
