"""Events: what the ledger holds. Each is a fact with a time and an actor; states are folds over them.

The wire form of an event is canonical JSON of an envelope (see ``stelae.ledger.codec``); ``KINDS`` maps the
``kind`` there to the class here. A kind is never renamed or given another meaning; a new fact gets a new kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from stelae.domain.action import Action
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.digest import Digest
from stelae.domain.environment import Environment, EnvironmentId, Strategy
from stelae.domain.image import Image, Source
from stelae.domain.observation import Exit
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.units import Instant


class Event:
    """A fact. ``kind`` is its name on the wire."""

    __slots__ = ()
    kind: ClassVar[str]


KINDS: dict[str, type[Event]] = {}

_E = TypeVar("_E", bound=type[Event])


def _known(cls: _E) -> _E:
    KINDS[cls.kind] = cls
    return cls


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event in the ledger: its leaf index, when it was recorded, and who caused it.

    ``environment`` is empty for facts of the whole installation. ``key`` is the client's idempotency key.
    """

    index: int
    at: Instant
    actor: str
    event: Event
    environment: EnvironmentId = EnvironmentId("")
    key: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStarted(Event):
    """A controller of this version checked the ledger and took over."""

    kind: ClassVar[str] = "controller.started"
    version: str
    boot: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBuilt(Event):
    """A source became an image (perhaps one that existed already: the same content, the same digest)."""

    kind: ClassVar[str] = "image.built"
    image: Image
    source: Source
    lock: str = ""
    format: int = 1


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageImported(Event):
    """An image was taken from the registry's *name* (``HOST/PATH``), as *tag* ("" by its digest). ``keys`` are those
    whose signatures of it were verified."""

    kind: ClassVar[str] = "image.imported"
    image: Image
    name: str
    tag: str = ""
    keys: tuple[str, ...] = ()


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePushed(Event):
    """An image was sent to a registry's *name* (``HOST/PATH``), as *tag* ("" by its digest only)."""

    kind: ClassVar[str] = "image.pushed"
    image: Digest
    name: str
    tag: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAttested(Event):
    """A key signed an image that was built from *commit*, how it was built and what is inside. ``statements`` are
    the digests of what was signed, by the type of the statement."""

    kind: ClassVar[str] = "image.attested"
    image: Digest
    key: str
    commit: str
    statements: Mapping[str, str] = field(default_factory=dict)


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTrusted(Event):
    """The signatures of a key count from now on: ``pem`` is its public half. ``signs`` says that this installation
    has the private half, made or given."""

    kind: ClassVar[str] = "key.trusted"
    key: str
    pem: str
    signs: bool = True


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(Event):
    """An image (its digest) or a key (its id) was taken back: nothing of it is deployed any more."""

    kind: ClassVar[str] = "trust.revoked"
    name: str
    reason: str


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailed(Event):
    """A build did not give an image."""

    kind: ClassVar[str] = "image.failed"
    source: Source
    reason: str


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCleaning(Event):
    """What nothing needs is about to be removed from the disk: ``counts`` of things by their kind, their size in
    ``bytes``, and the digests of the images among them (of very many, some entries follow each other)."""

    kind: ClassVar[str] = "storage.cleaning"
    images: tuple[Digest, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCleaned(Event):
    """What was removed from the disk; ``problem`` says why that was not all, or nothing."""

    kind: ClassVar[str] = "storage.cleaned"
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    problem: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentApplied(Event):
    """An environment was made what a spec says."""

    kind: ClassVar[str] = "environment.applied"
    environment: Environment


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStopped(Event):
    """An environment was taken down: it holds nothing until the next deployment or ``up``."""

    kind: ClassVar[str] = "environment.stopped"


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStarted(Event):
    """An environment that was taken down holds its stable release again."""

    kind: ClassVar[str] = "environment.started"


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Event):
    """A process should have this many instances."""

    kind: ClassVar[str] = "environment.scaled"
    process: str
    count: int


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRequested(Event):
    """An environment should move to a release. A rollout that is under way is superseded."""

    kind: ClassVar[str] = "deployment.requested"
    deployment: str
    deployment_kind: DeploymentKind
    release: Release
    strategy: Strategy
    reason: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """Somebody asked for something and was refused."""

    kind: ClassVar[str] = "request.refused"
    request: str
    reason: str


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAdvanced(Event):
    """A step's gate passed; the rollout is at this step now."""

    kind: ClassVar[str] = "rollout.advanced"
    deployment: str
    step: int


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReverting(Event):
    """The rollout goes back to the stable release and will end with ``ending``."""

    kind: ClassVar[str] = "rollout.reverting"
    deployment: str
    ending: Outcome
    reason: str
    details: tuple[str, ...] = ()


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnded(Event):
    """The rollout is over."""

    kind: ClassVar[str] = "rollout.ended"
    deployment: str
    outcome: Outcome
    reason: str = ""
    details: tuple[str, ...] = ()


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformLost(Event):
    """The platform stopped answering during a rollout."""

    kind: ClassVar[str] = "platform.lost"
    reason: str


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformBack(Event):
    """The platform answers again."""

    kind: ClassVar[str] = "platform.back"


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class WarmEnded(Event):
    """A replaced release is no longer kept warm."""

    kind: ClassVar[str] = "release.cooled"
    release: ReleaseId


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationSet(Event):
    """What the environment should hold from now on."""

    kind: ClassVar[str] = "allocation.set"
    allocation: Allocation


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionIntended(Event):
    """The controller is about to do this."""

    kind: ClassVar[str] = "action.intended"
    action: Action


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDone(Event):
    """The platform did it, or failed (``error`` says why)."""

    kind: ClassVar[str] = "action.done"
    number: int
    error: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReady(Event):
    """An instance's probe succeeded, at first or again."""

    kind: ClassVar[str] = "instance.ready"
    instance: InstanceId


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceUnready(Event):
    """An instance that was ready fails its probes."""

    kind: ClassVar[str] = "instance.unready"
    instance: InstanceId
    problem: str = ""


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceExited(Event):
    """An instance ended, as it was asked to or not."""

    kind: ClassVar[str] = "instance.exited"
    instance: InstanceId
    exit: Exit


@_known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLost(Event):
    """An instance is not there any more, and the platform cannot say how it ended."""

    kind: ClassVar[str] = "instance.lost"
    instance: InstanceId
