"""Events of promotion: what was verified, by whom a deployment was let in, and what was told to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.event.base import Event, known
from stelae.domain.promotion import Window
from stelae.domain.release import ReleaseId
from stelae.domain.units import Instant


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVerified(Event):
    """An image is verified in the environment: the rollout of its release succeeded, and nothing went wrong from
    ``since`` until now. ``evidence`` says what was seen. Where machines booted it, its ``disk`` is verified, and
    the image as such is not."""

    kind: ClassVar[str] = "image.verified"
    image: Digest
    release: ReleaseId
    deployment: str
    since: Instant
    evidence: str = ""
    disk: Digest | None = None

    @property
    def artifact(self) -> Digest:
        """What is verified."""
        return self.disk or self.image


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSigned(Event):
    """A key signed that the image, or its ``disk``, was verified here, for other controllers; ``statement`` is the
    digest of that."""

    kind: ClassVar[str] = "image.verification-signed"
    image: Digest
    deployment: str
    key: str
    statement: str
    disk: Digest | None = None

    @property
    def artifact(self) -> Digest:
        """What was verified."""
        return self.disk or self.image


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierTrusted(Event):
    """What the owner of a key says was verified in the environment ``verifies`` counts here from now on."""

    kind: ClassVar[str] = "verifier.trusted"
    key: str
    pem: str
    verifies: EnvironmentId


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationAccepted(Event):
    """The next deployment is let in on the word of another controller: the image, or its ``disk``, was verified in
    ``verifies``, its statement says, which ``key`` signed."""

    kind: ClassVar[str] = "verification.accepted"
    image: Digest
    verifies: EnvironmentId
    key: str
    statement: str
    release: ReleaseId
    verified_at: Instant
    evidence: str = ""
    disk: Digest | None = None


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentApproved(Event):
    """The actor approved a deployment of exactly this release. ``groups`` are those Unix groups of the policy that
    the actor was in."""

    kind: ClassVar[str] = "deployment.approved"
    deployment: str
    release: ReleaseId
    groups: tuple[str, ...] = ()
    reason: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeKnown(Event):
    """The freeze of the environment that is in force, or comes next (None: there is none)."""

    kind: ClassVar[str] = "freeze.known"
    window: Window | None = None


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class FreezePassed(Event):
    """A deployment was let in although the environment is frozen: a rollback, or an emergency (its reason)."""

    kind: ClassVar[str] = "freeze.passed"
    deployment: str
    window: Window
    emergency: str = ""


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationFailed(Event):
    """Somebody outside could not be told of the event ``index``; it is not tried any more."""

    kind: ClassVar[str] = "notification.failed"
    index: int
    to: str
    problem: str
