"""Events of rollouts: asked for, how they go, and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.allocation import Allocation
from stelae.domain.event.base import Event, known
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.strategy import Strategy


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRequested(Event):
    """An environment should move to a release. A rollout that is under way is superseded."""

    kind: ClassVar[str] = "deployment.requested"
    deployment: str
    deployment_kind: DeploymentKind
    release: Release
    strategy: Strategy
    reason: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAdvanced(Event):
    """A step's gate passed; the rollout is at this step now."""

    kind: ClassVar[str] = "rollout.advanced"
    deployment: str
    step: int


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReverting(Event):
    """The rollout goes back to the stable release and will end with ``ending``."""

    kind: ClassVar[str] = "rollout.reverting"
    deployment: str
    ending: Outcome
    reason: str
    details: tuple[str, ...] = ()


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnded(Event):
    """The rollout is over."""

    kind: ClassVar[str] = "rollout.ended"
    deployment: str
    outcome: Outcome
    reason: str = ""
    details: tuple[str, ...] = ()


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformLost(Event):
    """The platform stopped answering during a rollout."""

    kind: ClassVar[str] = "platform.lost"
    reason: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformBack(Event):
    """The platform answers again."""

    kind: ClassVar[str] = "platform.back"


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class WarmEnded(Event):
    """A replaced release is no longer kept warm."""

    kind: ClassVar[str] = "release.cooled"
    release: ReleaseId


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationSet(Event):
    """What the environment should hold from now on."""

    kind: ClassVar[str] = "allocation.set"
    allocation: Allocation
