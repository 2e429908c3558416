"""Events of environments: what they are made, and how many instances they want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.environment import Environment
from stelae.domain.event.base import Event, known


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentApplied(Event):
    """An environment was made what a spec says."""

    kind: ClassVar[str] = "environment.applied"
    environment: Environment


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStopped(Event):
    """An environment was taken down: it holds nothing until the next deployment or ``up``."""

    kind: ClassVar[str] = "environment.stopped"


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStarted(Event):
    """An environment that was taken down holds its stable release again."""

    kind: ClassVar[str] = "environment.started"


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Event):
    """A process should have this many instances; ``reason`` says why, where no person said so."""

    kind: ClassVar[str] = "environment.scaled"
    process: str
    count: int
    reason: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """Somebody asked for something and was refused."""

    kind: ClassVar[str] = "request.refused"
    request: str
    reason: str
