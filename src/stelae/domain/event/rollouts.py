"""Events of rollouts: asked for, how they go, and how they end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stelae.domain.allocation import Allocation
from stelae.domain.event.base import Event, known
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, Outcome, Phase
from stelae.domain.strategy import Strategy
from stelae.domain.traffic import Traffic


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRequested(Event):
    """An environment should move to a release. A rollout that is under way is superseded. ``emergency`` is why it may
    begin in a freeze, "" where it may not."""

    kind: ClassVar[str] = "deployment.requested"
    deployment: str
    deployment_kind: DeploymentKind
    release: Release
    strategy: Strategy
    reason: str = ""
    emergency: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAdvanced(Event):
    """A step's gate passed; the rollout is at this step now. ``reason`` is the evidence in words, and ``excused`` are
    the metrics whose limit the old release broke already."""

    kind: ClassVar[str] = "rollout.advanced"
    deployment: str
    step: int
    reason: str = ""
    excused: tuple[str, ...] = ()


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPhase(Event):
    """The rollout may go on: from WAITING to PREPARING or FORWARD, or from PREPARING to FORWARD."""

    kind: ClassVar[str] = "rollout.phase"
    deployment: str
    phase: Phase


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class StepHeld(Event):
    """What the step asks for is held now: its soak begins. ``traffic`` is what the router had counted by then."""

    kind: ClassVar[str] = "rollout.held"
    deployment: str
    step: int
    traffic: Mapping[ReleaseId, Traffic] = field(default_factory=dict)


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAwaited(Event):
    """The rollout waits for a person, who has to say what ``reason`` tells; "" when it does no longer."""

    kind: ClassVar[str] = "rollout.asks"
    deployment: str
    reason: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened(Event):
    """A person lets the rollout go on from this step."""

    kind: ClassVar[str] = "rollout.opened"
    deployment: str
    step: int
    reason: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPaused(Event):
    """A person holds the rollout where it is: no step forward, and no soak goes by."""

    kind: ClassVar[str] = "rollout.paused"
    deployment: str
    reason: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutResumed(Event):
    """The rollout goes on after a pause."""

    kind: ClassVar[str] = "rollout.resumed"
    deployment: str


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutHurried(Event):
    """A person skips the soaks, gates and analysis that are left; what is not ready still gets no traffic."""

    kind: ClassVar[str] = "rollout.hurried"
    deployment: str
    reason: str = ""


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
