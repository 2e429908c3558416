"""The shape of a plan."""

from __future__ import annotations

from typing import Literal, TypedDict

from stelae.controller.shapes.common import Count, Digest, OptionalDigest, SecretChange, Time
from stelae.controller.shapes.environments import PlatformChoice, Rollout
from stelae.controller.shapes.runs import Crossed, PlannedJob


class End(TypedDict):
    """One end of a plan's way; ``commit`` is ``""`` where it is not known, ``disk`` where nothing boots one."""

    release: str
    image: Digest
    disk: OptionalDigest
    commit: str
    subject: str


class NowThen(TypedDict):
    """Serving instances that should be there now, and in the end; ``min`` and ``max`` are null where the count is
    not scaled."""

    now: Count
    then: Count
    min: Count | None
    max: Count | None


class Setting(TypedDict):
    """A setting that differs, by name."""

    name: str
    change: Literal["added", "changed", "removed"]


class Held(TypedDict):
    """Instances of one process of one release."""

    release: str
    process: str
    serving: Count
    warm: Count


class Gate(TypedDict):
    """What a step waits for once it is held: ``soak`` is in microseconds, ``manual`` means that a person has to let
    it go on; ``job`` is ``""`` for none."""

    soak: Count
    manual: bool
    job: str
    checks: list[str]


class Step(TypedDict):
    """What an environment holds at one step; no ``traffic`` means equal shares for what serves. ``ratio`` is what the
    share of each release comes to at a canary's step, where the platform gives no exact ones."""

    holds: list[Held]
    traffic: dict[str, Count]
    ratio: dict[str, Count]


class Needed(TypedDict):
    """What the environment requires to be proven of the image; ``why`` it is not, ``""`` when it is."""

    requirement: Literal["signature", "provenance", "sbom"]
    ok: bool
    why: str


class Refusal(TypedDict):
    """What the deployment would be refused with now."""

    kind: str
    message: str
    hint: str
    exit: int


class Difference(TypedDict):
    """A value that applying the spec would change."""

    path: str
    old: str
    new: str


class PlannedPackage(TypedDict):
    """A package that is another one; a version is ``""`` where it is not there."""

    kind: str
    name: str
    old: str
    new: str


class PlannedPath(TypedDict):
    """A path that is another one."""

    path: str
    change: Literal["added", "changed", "removed"]


class PlannedChanges(TypedDict):
    """What is another inside the image: ``files`` counts, ``first`` names the first of them, ``size`` is in bytes."""

    packages: list[PlannedPackage]
    files: dict[str, Count]
    first: list[PlannedPath]
    size: dict[str, Count]


class Memory(TypedDict):
    """Bytes: what the instances may use at the most on the way, what those of other environments may use, and what
    the machine has; null where a cluster holds them."""

    needed: Count
    others: Count
    machine: Count | None


class VerifiedThere(TypedDict):
    """Whether the image was verified where it has to come from: since when nothing went wrong there until ``at``, on
    what evidence, and by whose word (a ``key``) if not by this record; or why it does not count as that."""

    environment: str
    ok: bool
    at: Time
    since: Time
    evidence: str
    key: str
    why: str


class Approvals(TypedDict):
    """How many people have to approve it, and who may ("" for anybody)."""

    needed: Count
    by: str


class Frozen(TypedDict):
    """The freeze that is in force, or that comes next; ``until`` is its end as people read it."""

    frozen: bool
    begins: Time
    ends: Time
    until: str
    reason: str


class Policy(TypedDict):
    """What the policy asks for, and how that stands; null where it does not ask."""

    verified: VerifiedThere | None
    approvals: Approvals | None
    freeze: Frozen | None


Planned = TypedDict(
    "Planned",
    {
        "environment": str,
        "index": Count,
        "kind": Literal["deploy", "rollback"],
        "from": End | None,
        "to": End,
        "processes": dict[str, NowThen],
        "settings": list[Setting],
        "secret_env": list[Setting],
        "secrets": list[SecretChange],
        "strategy": str,
        "steps": list[Step],
        "after": Step,
        "gates": list[Gate],
        "warm": dict[str, Time],
        "nothing": bool,
        "promote_from": str,
        "policy": Policy | None,
        "hosts": list[str],
        "platform": PlatformChoice,
        "rollout": Rollout | None,
        "proofs": list[Needed],
        "refusal": Refusal | None,
        "refusals": list[Refusal],
        "warnings": list[str],
        "spec": list[Difference],
        "changes": PlannedChanges | None,
        "memory": Memory,
        "jobs": list[PlannedJob],
        "irreversible": list[Crossed],
    },
)
"""What would change. ``index`` is what a deployment or a rollback can be bound to."""
