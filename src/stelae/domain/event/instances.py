"""Events of single instances: what is done to them, and what is seen of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.action import Action
from stelae.domain.allocation import InstanceId
from stelae.domain.event.base import Event, known
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionIntended(Event):
    """The controller is about to do this."""

    kind: ClassVar[str] = "action.intended"
    action: Action


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDone(Event):
    """The platform did it, or failed (``error`` says why). ``unsure`` is true of a run's launch that
    failed and may have happened all the same."""

    kind: ClassVar[str] = "action.done"
    number: int
    error: str = ""
    unsure: bool = False


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReady(Event):
    """An instance's probe succeeded, at first or again."""

    kind: ClassVar[str] = "instance.ready"
    instance: InstanceId


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceUnready(Event):
    """An instance that was ready fails its probes."""

    kind: ClassVar[str] = "instance.unready"
    instance: InstanceId
    problem: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceExited(Event):
    """An instance ended, as it was asked to or not."""

    kind: ClassVar[str] = "instance.exited"
    instance: InstanceId
    exit: Exit


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLost(Event):
    """An instance is not there any more, and the platform cannot say how it ended."""

    kind: ClassVar[str] = "instance.lost"
    instance: InstanceId


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSeen(Event):
    """A platform that keeps sets has launched an instance, on ``node``."""

    kind: ClassVar[str] = "instance.seen"
    instance: InstanceId
    release: ReleaseId
    process: str
    node: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEnding(Event):
    """A platform that keeps sets has asked an instance to end; ``unasked`` when nothing that was recorded was why."""

    kind: ClassVar[str] = "instance.ending"
    instance: InstanceId
    unasked: bool = False


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGone(Event):
    """A platform that keeps sets has nothing of an instance any more."""

    kind: ClassVar[str] = "instance.gone"
    instance: InstanceId
