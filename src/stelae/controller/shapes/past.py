"""The shapes of answers about the past: what was observed, where something ran, what differs between two times."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from stelae.controller.shapes.common import Count, Digest, OptionalDigest, Time
from stelae.controller.shapes.environments import RowAt
from stelae.controller.shapes.proofs import Diff


class Gap(TypedDict):
    """A time in which nobody looked, and why."""

    since: Time
    until: Time
    why: str


class Observed(TypedDict):
    """Of the time from ``since`` to ``until``, the ``share`` in basis points in which somebody looked, rounded down,
    and the newest of the gaps. ``share`` is null where there is nothing to say: it was never watched."""

    since: Time | None
    until: Time
    share: Count | None
    gaps: list[Gap]


class EnvironmentThen(RowAt):
    """Where an environment stood at a time; ``event`` is the index of the event that asked for what it ran, for a
    receipt, and ``observed`` is about the day before."""

    deployment: str
    event: Count | None
    observed: Observed


class Then(TypedDict):
    """What ran at a time; ``index`` is the number of events that were recorded up to then."""

    at: Time
    index: Count
    environments: list[EnvironmentThen]


class LifeEvents(TypedDict):
    """The indexes of the events that began and ended a life; null while it goes on."""

    launched: Count
    removed: Count | None


class Lived(TypedDict):
    """The life of an instance, on a ``node`` of a cluster ("" on this machine), or of a ``run`` of a job. Each time
    is when that was recorded, null where it was not yet. ``observed`` and ``inspected`` say in which of the time
    since it was started there was a look at it, and an inspection of it."""

    instance: str
    environment: str
    process: str
    run: bool
    node: str
    release: str
    image: OptionalDigest
    commit: str
    launched_at: Time
    started_at: Time | None
    first_ready_at: Time | None
    routed_at: Time | None
    drained_at: Time | None
    stopped_at: Time | None
    killed_at: Time | None
    ended_at: Time | None
    removed_at: Time | None
    ready: bool
    exit: str
    failed: str
    events: LifeEvents
    observed: Observed
    inspected: Observed


class Containing(TypedDict):
    """A release of an image that was asked about; ``versions`` are those of the package, where one was."""

    release: str
    environment: str
    image: Digest
    disk: OptionalDigest
    stable: bool
    versions: list[str]
    deployments: list[str]


class Where(TypedDict):
    """Where something runs, or (``ever``) ran, the oldest first. ``unknown`` are images that are not here any more,
    so that nobody can look whether a package is in them."""

    ref: str
    kind: Literal["commit", "image", "disk", "release", "package"]
    images: list[Digest]
    ever: bool
    releases: list[Containing]
    instances: list[Lived]
    unknown: list[Digest]


class End(TypedDict):
    """An environment that is compared; ``at`` is null for now."""

    environment: str
    at: Time | None
    release: str
    image: OptionalDigest
    disk: OptionalDigest
    commit: str
    subject: str
    deployed_by: str
    deployed_at: Time | None
    state: str


class ValueChange(TypedDict):
    """A value of ``[env.NAME]`` that differs."""

    path: str
    old: Any
    new: Any


class CountChange(TypedDict):
    """How many instances of a process there should be."""

    process: str
    old: Count
    new: Count


class Between(TypedDict):
    """A deployment that was asked for, or ended, between the two times."""

    deployment: str
    kind: Literal["deploy", "rollback"]
    actor: str
    requested_at: Time
    release: str
    outcome: str


class EnvironmentsDiffer(TypedDict):
    """What differs between two environments, or one at two times, besides what is inside."""

    old: End
    new: End
    config: list[ValueChange]
    instances: list[CountChange]
    deployments: list[Between]


class Differs(Diff):
    """What differs; ``unknown`` says why nothing can be said of packages and files, ``""`` where it can, and
    ``environments`` is null unless two environments are compared."""

    unknown: str
    environments: EnvironmentsDiffer | None
