"""Allocations: how many instances of which release an environment holds, and who gets the traffic.

Every strategy is a path of allocations; every platform is a thing that can hold one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stelae.domain.release import ReleaseId

InstanceId = NewType("InstanceId", str)
"""``process-release-n``, for example ``web-c04xvt-3``; unique in its environment, for ever."""

FULL_WEIGHT = 10_000
"""All of the traffic, in basis points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """How many instances of one process of one release: ``serving`` ones and ``warm`` ones."""

    release: ReleaseId
    process: str
    serving: int
    warm: int = 0

    @property
    def total(self) -> int:
        """Instances of both kinds."""
        return self.serving + self.warm


class RouteKind(StrEnum):
    """By what a request is sent to a release whatever the weights are."""

    HOST = "host"  # its host name is ``name``
    HEADER = "header"  # its header ``name`` is ``value``
    COOKIE = "cookie"  # its cookie ``name`` is ``value``
    STICKY = "sticky"  # the release answered an earlier request of the same user, who kept the router's cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Requests that go to *release* before the weights are asked; by the weights where it has no ready instance.

    HOST has ``name``, which leads nowhere else; HEADER and COOKIE have ``name`` and ``value`` (any value, where that
    is ""); STICKY has neither. Of several that are true of a request the first kind in this order counts: HOST,
    HEADER, COOKIE, STICKY.
    """

    kind: RouteKind
    release: ReleaseId
    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What an environment should hold.

    ``weights`` are basis points a release, sum 10,000; empty means that each serving instance gets an
    equal share. ``floor`` is, for each process, the ready capacity that no act may go below (less, when
    less is ready now). ``condemned`` instances do not count: their replacement is ready first. ``routes`` come
    before the weights; a release that they lead to needs no weight. ``most`` is, for each process, how many instances
    there may be at a time, those that end included; a process that is not in it may have any number.
    """

    generation: int = 0
    holdings: tuple[Holding, ...] = ()
    weights: Mapping[ReleaseId, int] = field(default_factory=dict)
    floor: Mapping[str, int] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    condemned: frozenset[InstanceId] = frozenset()
    routes: tuple[Route, ...] = ()
    most: Mapping[str, int] = field(default_factory=dict)

    def holding(self, release: ReleaseId, process: str) -> Holding:
        """Return the holding of *process* of *release*, empty when there is none."""
        for held in self.holdings:
            if held.release == release and held.process == process:
                return held
        return Holding(release=release, process=process, serving=0)

    def same_target(self, other: Allocation) -> bool:
        """True when both ask for the same, whatever their generations."""
        return self._target() == other._target()

    def _target(self) -> tuple[object, ...]:
        return (
            self.holdings, dict(self.weights), dict(self.floor), self.hosts, self.condemned, self.routes,
            dict(self.most),
        )  # fmt: skip
