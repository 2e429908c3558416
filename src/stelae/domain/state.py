"""The state of environments: folds over events, never stored by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.action import Action
from stelae.domain.allocation import Allocation, InstanceId, Route
from stelae.domain.artifact import Disk
from stelae.domain.check import CheckState
from stelae.domain.digest import Digest
from stelae.domain.drift import Drifted, DriftState
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.image import Image, Source
from stelae.domain.observation import Exit
from stelae.domain.promotion import Approval, Approved, Verification, Verifying, Window
from stelae.domain.release import Release, ReleaseId
from stelae.domain.run import Run
from stelae.domain.secret import SecretVersion
from stelae.domain.strategy import Strategy
from stelae.domain.traffic import Traffic
from stelae.domain.trust import Attested, Revocation, TrustedKey
from stelae.domain.units import Duration, Instant
from stelae.domain.watch import Watching


class DeploymentKind(StrEnum):
    """Why a deployment was asked for."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class Phase(StrEnum):
    """Where a rollout is. It holds what was there before, and nothing of the candidate, until it goes FORWARD."""

    WAITING = "waiting"  # for an approval, or for the end of a freeze
    PREPARING = "preparing"  # the jobs that come before any traffic run
    FORWARD = "forward"
    REVERTING = "reverting"


class Outcome(StrEnum):
    """How a rollout ended. A rollout always ends."""

    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The carrying out of a deployment. ``step`` counts the allocations of its path from 0.

    ``unreachable_since`` is when the platform stopped answering. ``ending`` is the outcome that a revert
    ends with, and ``reason`` why it reverts.

    ``step_at`` is when the phase or the step began, and ``held_at`` when the step's allocation was first held (the
    start of its soak; ``baseline`` is what the router had counted then); both are put off by the time in which a
    person was waited for, or the platform did not answer. ``paused_at`` and ``paused_by`` say since when and by whom
    it is paused. ``hurried``: somebody skipped the soaks, gates and analysis that were left. ``opened`` is the step
    whose gate a person opened last. ``asks`` is what a person has to say, waited for since ``asks_since``.

    ``needs`` is who has to approve it, as the environment said when it was asked for, and ``approved`` who did;
    ``brings`` is a weaker policy, applied before, that is in force once it was let in.
    ``waits_from`` is from when the patience for that counts: from the end of the freeze that it was asked for in,
    else 0.
    ``emergency`` is why it may begin in a freeze, "" where it may not.

    ``intervals`` counts how often a step was held, each time with a ``baseline`` of its own. ``excused`` are the
    metrics whose limit the old release broke already, and ``passed`` is what the step before this one passed with.
    ``checks`` is what the checks of the strategy said, by name.
    """

    deployment: str
    kind: DeploymentKind
    candidate: ReleaseId
    stable: ReleaseId | None
    strategy: Strategy
    actor: str
    started_at: Instant
    step: int = 0
    step_at: Instant = 0
    phase: Phase = Phase.FORWARD
    ending: Outcome = Outcome.REVERTED
    reason: str = ""
    details: tuple[str, ...] = ()
    unreachable_since: Instant | None = None
    held_at: Instant | None = None
    baseline: Mapping[ReleaseId, Traffic] = field(default_factory=dict)
    paused_at: Instant | None = None
    paused_by: str = ""
    hurried: bool = False
    opened: int = -1
    asks: str = ""
    asks_since: Instant | None = None
    needs: Approval = field(default_factory=Approval)
    brings: Approval | None = None
    approved: tuple[Approved, ...] = ()
    waits_from: Instant = 0
    emergency: str = ""
    intervals: int = 0
    excused: tuple[str, ...] = ()
    passed: str = ""
    checks: Mapping[str, CheckState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A request to move an environment to a release, who approved it, and how it went."""

    id: str
    kind: DeploymentKind
    release: ReleaseId
    actor: str
    requested_at: Instant
    previous: ReleaseId | None = None
    reason: str = ""
    outcome: Outcome | None = None
    ended_at: Instant | None = None
    why: str = ""
    details: tuple[str, ...] = ()
    approved: tuple[Approved, ...] = ()
    emergency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One launched instance, until what it left has been removed."""

    id: InstanceId
    release: ReleaseId
    process: str
    launched_at: Instant
    started: bool = False  # the launch's outcome is recorded
    failed: str = ""  # why the launch failed
    ready_at: Instant | None = None  # start of the present unbroken time of being ready
    ever_ready: bool = False
    unready_at: Instant | None = None  # since when it fails the probes that it passed before
    flaps: int = 0  # how often it stopped being ready, with no calm time in between
    exit: Exit | None = None
    drained_at: Instant | None = None  # since when it gets no new requests
    stopped_at: Instant | None = None  # when it was asked to end
    killed_at: Instant | None = None
    drift: tuple[Drifted, ...] = ()  # how it differs from its release
    replaced_for: str = ""  # why a person wants it replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Failures in a row of one thing, and when it may be tried again. ``since`` is when the first of them was; of
    instances that end, ``why`` the last one did and its last ``lines``."""

    failures: int
    until: Instant
    since: Instant = 0
    why: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentState:
    """All that is recorded of one environment.

    ``instances`` are those not yet removed; ``table`` is the last traffic table whose outcome is recorded, with
    ``hosts`` and ``routes``;
    ``pending`` are actions whose intent is recorded and whose outcome is not. ``stables`` are the
    releases that were stable, oldest first, without repeats in a row: what a rollback can go to. ``watching`` says
    from when to when it was looked at.
    ``warm`` says until when a replaced release stays warm. ``launches`` counts launches by the short id of the
    release, so that no instance id is used twice. ``backoff`` says what is not tried again before when (the keys
    are of ``stelae.core.backoff``). ``verified`` are images (disks, where machines boot them) that were ever
    verified here, ``verifications`` says of each when last, and how (whether that still counts says
    ``stelae.core.verification``); ``verifying`` is what may come to be. ``freeze`` is the one that is in force or
    comes next, as far as somebody had to know. ``revision`` is the index of the newest event that a plan must know
    of. ``secrets`` are all versions of each secret, oldest first. ``runs`` are those of jobs and commands that are
    not over, and the last that are. ``approval`` is who has to approve a deployment: what is applied, or, where
    that asks for less than before, what was asked for before, until a deployment was let in by that. ``drift`` is
    what is recorded of drift besides that of the instances.

    Where the platform keeps sets, ``sets`` says how many instances each was told to have last (the keys are of
    ``stelae.core.native``), and ``weights`` how the requests are shared out between releases.
    """

    id: EnvironmentId
    config: Environment | None = None
    revision: int = 0
    down: bool = False
    wanted: Mapping[str, int] = field(default_factory=dict)
    stable: ReleaseId | None = None
    stable_since: Instant | None = None
    stables: tuple[ReleaseId, ...] = ()
    warm: Mapping[ReleaseId, Instant] = field(default_factory=dict)
    verified: frozenset[Digest] = frozenset()
    verifications: Mapping[Digest, Verification] = field(default_factory=dict)
    verifying: Verifying | None = None
    freeze: Window | None = None
    approval: Approval = field(default_factory=Approval)
    rollout: Rollout | None = None
    allocation: Allocation = field(default_factory=Allocation)
    instances: Mapping[InstanceId, Instance] = field(default_factory=dict)
    table: Mapping[InstanceId, int] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    pending: Mapping[str, Action] = field(default_factory=dict)
    actions: int = 0
    applied: int = 0
    launches: Mapping[str, int] = field(default_factory=dict)
    backoff: Mapping[str, Backoff] = field(default_factory=dict)
    releases: Mapping[ReleaseId, Release] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    secrets: Mapping[str, tuple[SecretVersion, ...]] = field(default_factory=dict)
    runs: Mapping[InstanceId, Run] = field(default_factory=dict)
    watching: Watching | None = None
    drift: DriftState = field(default_factory=DriftState)
    sets: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[ReleaseId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was built, in the record: by whom and when first, and when last. ``locks`` are the digests of the locks
    that it was built with, oldest first."""

    actor: str
    built_at: Instant
    last_built_at: Instant = 0
    locks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage(Built):
    """An image in the record, and from which sources it was built."""

    image: Image
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDisk(Built):
    """A disk in the record, and for which commits it was made. Its locks are those whose packages it is made of."""

    disk: Disk
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """When the disk was cleaned last, how many bytes were freed, and what went wrong, if anything."""

    at: Instant
    bytes: int
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRefusal:
    """A witness that has seen ``seen`` events did not cosign the log at ``size``, and why."""

    seen: int
    size: int
    reason: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationState:
    """All that is recorded: the fold of the whole ledger.

    ``disks`` are those that were made of images, by the digests that releases name them by.
    ``requests`` maps an idempotency key to the deployment that it made. ``keys`` are those whose signatures count or
    counted; ``attested`` says who signed an image, oldest first; ``revoked`` are images (by digest) and keys (by id).
    ``cleaned`` is how cleaning the disk went last. ``tags`` are what the tags of registries (``HOST/PATH:TAG``) were
    when an image was taken by them last. ``verifiers`` are the keys (by id) of other controllers whose word on
    what was verified in an environment counts here. ``ahead`` is how far the record's times were ahead of the
    machine's clock when that had been put back, 0 where they are not. ``names`` are those that the installation had
    when backups of it were made that were brought back.
    ``witnesses`` is the policy (C2SP tlog-policy) of who has to cosign the log, "" for nobody; ``refusals`` are the
    latest of those who would not, by their names in it.
    """

    size: int = 0
    environments: Mapping[EnvironmentId, EnvironmentState] = field(default_factory=dict)
    images: Mapping[Digest, BuiltImage] = field(default_factory=dict)
    disks: Mapping[Digest, BuiltDisk] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    deployments: int = 0
    keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    attested: Mapping[Digest, tuple[Attested, ...]] = field(default_factory=dict)
    revoked: Mapping[str, Revocation] = field(default_factory=dict)
    cleaned: Cleaning | None = None
    tags: Mapping[str, Digest] = field(default_factory=dict)
    verifiers: Mapping[EnvironmentId, Mapping[str, TrustedKey]] = field(default_factory=dict)
    witnesses: str = ""
    refusals: Mapping[str, WitnessRefusal] = field(default_factory=dict)
    ahead: Duration = 0
    names: tuple[str, ...] = ()
