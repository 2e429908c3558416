"""The shapes of answers about environments: what is applied, deployed and running, now and at a time."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from stelae.controller.shapes.common import Count, Digest, Head, OptionalDigest, Time
from stelae.controller.shapes.drift import Drift
from stelae.controller.shapes.machine import Cleaned
from stelae.controller.shapes.runs import Run


class Change(TypedDict):
    """A value of an environment that differs, in the spec's words."""

    environment: str
    path: str
    old: Any
    new: Any


class Applied(TypedDict):
    """What differed, the environments that were changed (none in a dry run), and what would not work as it says."""

    changes: list[Change]
    applied: list[str]
    warnings: list[str]


Freeze = TypedDict("Freeze", {"from": str, "for": str, "zone": str, "reason": NotRequired[str]})
"""When no deployment begins, in the words of ``[env.NAME]``."""


class Webhook(TypedDict):
    """Who outside is told of what, in the words of ``[env.NAME]``."""

    webhook: str
    on: list[str]


class Pace(TypedDict):
    """How quickly a count changes in one direction; ``share`` or ``count`` is left out where it does not count."""

    window: str
    share: NotRequired[str]
    count: NotRequired[Count]
    period: str


class Scaling(TypedDict):
    """Between which numbers a process is scaled, and by what: one of the targets may be left out."""

    min: Count
    max: Count
    target_rps: NotRequired[Count]
    target_cpu: NotRequired[str]
    tolerance: str
    up: Pace
    down: Pace


class PlatformChoice(TypedDict):
    """What holds an environment; all but ``kind`` are of a cluster, ``context`` and ``gateway`` only where given."""

    kind: Literal["local", "kubernetes", "vm"]
    context: NotRequired[str]
    namespace: NotRequired[str]
    registry: NotRequired[str]
    gateway: NotRequired[str]


class Environment(TypedDict):
    """An environment as it was applied, in the words of ``[env.NAME]``. ``wanted`` is how many instances of each
    process it should have now."""

    app: str
    name: str
    processes: dict[str, Count | Scaling]
    wanted: dict[str, Count]
    settings: dict[str, str]
    hosts: list[str]
    strategy: dict[str, str]
    bake: str
    promote_from: str
    require: list[str]
    verify_for: str
    approvals: int | dict[str, Count]
    approvers: list[str]
    freeze: list[Freeze]
    notify: list[Webhook]
    drift: str
    drift_storm: str
    secrets: list[str]
    secret_env: list[str]
    platform: PlatformChoice


class Environments(TypedDict):
    """The environments."""

    environments: list[Environment]


class Deployed(TypedDict):
    """A deployment that was accepted: the release it moves to, and the one before (``""`` for none). ``note`` says
    what a rollback passed over, because it was revoked. ``disk`` is what virtual machines boot, ``""`` elsewhere."""

    deployment: str
    release: str
    previous: str
    image: Digest
    disk: OptionalDigest
    note: str


class LetOn(TypedDict):
    """A deployment that somebody let on, or rejected; ``approvals`` is such as ``1/2 (ops)``, and ``waits`` what it
    still waits for, if for anything."""

    deployment: str
    environment: str
    approvals: str
    waits: str


class Aborted(TypedDict):
    """The deployment that is being ended."""

    deployment: str


class Steered(TypedDict):
    """The deployment that is held, or goes on, and where it is."""

    deployment: str
    step: Count
    steps: Count


class Scaled(TypedDict):
    """How many instances of each process are wanted now."""

    environment: str
    processes: dict[str, Count]


class Serving(TypedDict):
    """The release that serves, and its ready instances."""

    release: str
    ready: Count
    wanted: Count


class Approved(TypedDict):
    """Who approved a deployment; ``groups`` are those of the policy that they were in then."""

    person: str
    at: Time
    groups: list[str]
    reason: str


class Deployment(TypedDict):
    """A deployment and how it went; ``outcome`` is ``""`` and ``ended_at`` null while it is under way."""

    deployment: str
    environment: str
    kind: Literal["deploy", "rollback"]
    release: str
    image: Digest
    disk: OptionalDigest
    previous: str
    actor: str
    requested_at: Time
    reason: str
    outcome: Literal["", "succeeded", "reverted", "cancelled", "superseded", "failed"]
    ended_at: Time | None
    approved: list[Approved]
    emergency: str
    why: str
    details: list[str]
    warm_until: Time | None
    serving: Serving
    hosts: list[str]
    runs: list[Run]


class Progress(TypedDict):
    """How far a deployment is."""

    text: str
    step: Count
    ready: Count
    wanted: Count


class Ready(TypedDict):
    """Instances that are ready, and that are wanted."""

    ready: Count
    wanted: Count


class Counted(Ready):
    """Of a process: ``min`` and ``max`` are null where its count is not scaled."""

    min: Count | None
    max: Count | None


class CrashLoop(TypedDict):
    """A process whose instances end again and again: how and how often in a row, and when one is launched next."""

    process: str
    why: str
    failures: Count
    first_at: Time
    last_at: Time
    next_at: Time
    last_lines: list[str]


class Rollout(TypedDict):
    """A deployment that is under way. ``share`` is the candidate's part of the traffic at a canary's step, in basis
    points; ``asks`` what a person has to say; ``paused_by`` who holds it; ``hurried`` says that what is left of
    soaks, gates and analysis is skipped."""

    deployment: str
    kind: Literal["deploy", "rollback"]
    candidate: str
    strategy: str
    phase: Literal["waiting", "preparing", "forward", "reverting"]
    step: Count
    steps: Count
    ready: Count
    wanted: Count
    reason: str
    actor: str
    started_at: Time
    share: Count | None
    soaks_until: Time | None
    asks: str
    paused_by: str
    hurried: bool


class Row(TypedDict):
    """Where an environment stands. ``disk`` is what its virtual machines boot, ``""`` where there are none."""

    app: str
    environment: str
    image: OptionalDigest
    disk: OptionalDigest
    release: str
    commit: str
    instances: Ready
    processes: dict[str, Counted]
    traffic: dict[str, Count]
    since: Time | None
    state: Literal[
        "down",
        "reverting",
        "paused",
        "waiting",
        "deploying",
        "empty",
        "steady",
        "degraded",
        "verified",
        "drifted",
        "scaling",
    ]
    detail: str
    hosts: list[str]
    platform: PlatformChoice
    warm: dict[str, Time]
    rollout: Rollout | None
    runs: list[Run]
    crash_loops: list[CrashLoop]
    drift: Drift


class Refusal(TypedDict):
    """A witness of the log that has seen ``seen`` events did not cosign it at ``size``: it knows another history."""

    witness: str
    seen: Count
    size: Count
    at: Time
    problem: str


class Status(TypedDict):
    """Where all environments stand, the record's head, how the disk was cleaned last, and which witnesses of the log
    refuse it."""

    environments: list[Row]
    record: Head
    storage: Cleaned
    refusals: list[Refusal]


class Happened(TypedDict):
    """An event of the record, in words."""

    index: Count
    at: Time
    actor: str
    environment: str
    kind: str
    text: str


class History(TypedDict):
    """Events, oldest first."""

    events: list[Happened]


class Instance(TypedDict):
    """An instance; ``exit`` says how it ended."""

    id: str
    process: str
    release: str
    since: Time
    ready: bool
    exit: str


class RowAt(Row):
    """Where an environment stood at a time."""

    subject: str
    deployed_by: str
    approved_by: list[str]
    deployed_at: Time | None
    settings: dict[str, str]
    secrets: dict[str, Count]
    table: dict[str, int]
    instances: list[Instance]  # type: ignore[misc]  # one by one, where a row of now has their counts
