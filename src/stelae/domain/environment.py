"""Environments: where releases of an app run, and how they get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stelae.domain.trust import Requirement
from stelae.domain.units import MINUTE, SECOND, Duration

EnvironmentId = NewType("EnvironmentId", str)
"""``app/environment``, for example ``guestbook/production``."""


class StrategyKind(StrEnum):
    """The shape of a rollout's path of allocations."""

    RECREATE = "recreate"
    ROLLING = "rolling"
    BLUE_GREEN = "blue-green"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How an environment moves from one release to the next.

    ``batch`` is the share of the wanted instances that a rolling step adds, in percent, at least one
    instance. ``min_healthy`` is how long a new instance must stay ready before it counts. ``progress``
    is the longest time that a step may take; ``platform`` the longest time that the platform may be
    unreachable during a rollout.
    """

    kind: StrategyKind = StrategyKind.ROLLING
    batch: int = 25
    min_healthy: Duration = SECOND
    progress: Duration = 10 * MINUTE
    platform: Duration = 5 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What ``stelae env apply`` makes an environment be.

    ``processes`` maps a process to the number of its instances. ``bake`` is how long the replaced
    release stays warm (running, without traffic). ``promote_from`` admits only images whose rollout
    succeeded in that environment of the same app. ``require`` is what must be proven of an image, with a key that
    counts, before it may come in.
    """

    app: str
    name: str
    processes: Mapping[str, int]
    settings: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    strategy: Strategy = Strategy()
    bake: Duration = 0
    promote_from: str = ""
    require: tuple[Requirement, ...] = ()

    @property
    def id(self) -> EnvironmentId:
        """The environment's name in the whole installation."""
        return environment_id(self.app, self.name)

    @property
    def routed_hosts(self) -> tuple[str, ...]:
        """The host names whose requests go to this environment; one below ``localhost`` when none is given."""
        return self.hosts or (f"{self.app}.{self.name}.localhost",)


def environment_id(app: str, name: str) -> EnvironmentId:
    """Return the id of environment *name* of *app*."""
    return EnvironmentId(f"{app}/{name}")
