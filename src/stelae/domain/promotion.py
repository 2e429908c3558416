"""Promotion: what must be true before an image may come into an environment, and who said so.

*Verified* is a fact about an image in an environment, *approved* one about a single deployment. Neither stands in for
the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.release import ReleaseId
from stelae.domain.units import Duration, Instant

GROUP = "group:"
"""How an approver is written who is any member of a Unix group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who has to approve a deployment: ``count`` different people, or so many of each Unix group in ``groups`` (each
    person counts for one of them). ``approvers`` are user names, and ``group:NAME``; () is everybody."""

    count: int = 0
    groups: Mapping[str, int] = field(default_factory=dict)
    approvers: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """How many people that are."""
        return sum(self.groups.values()) if self.groups else self.count

    @property
    def words(self) -> str:
        """From whom, in few words; "" for anybody."""
        if self.groups:
            return " + ".join(name if count == 1 else f"{count} {name}" for name, count in self.groups.items())
        return ", ".join(name.removeprefix(GROUP) for name in self.approvers)

    def covers(self, other: Approval) -> bool:
        """True when whoever satisfies this satisfies *other* too."""
        if other.groups:
            return all(self.groups.get(group, 0) >= count for group, count in other.groups.items())
        if self.needed < other.count or not (other.count and other.approvers):
            return self.needed >= other.count
        mine = {f"{GROUP}{group}" for group in self.groups} or set(self.approvers)
        return bool(mine) and mine <= set(other.approvers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """That a person approved a deployment; ``groups`` are those of the policy that they belonged to then."""

    person: str
    at: Instant
    groups: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Times in which nothing new is rolled out: they begin when the five fields of ``cron`` say, by the clocks of
    ``zone``, and end when those clocks are ``length`` further."""

    cron: str
    length: Duration
    zone: str = "UTC"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One freeze, in force from ``begins`` until ``ends``. ``until`` is its end as the clocks of its zone show it,
    for people."""

    begins: Instant
    ends: Instant
    reason: str = ""
    until: str = ""

    def holds(self, at: Instant) -> bool:
        """True when it is in force at *at*."""
        return self.begins <= at < self.ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying:
    """The release that may come to be verified: its rollout succeeded, and nothing went wrong ``since``."""

    release: ReleaseId
    deployment: str
    since: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """That an image was verified by a deployment of a release: nothing went wrong from ``since`` to ``at``.

    ``statement`` is the digest of what was signed of it, by ``key``; "" until then.
    """

    release: ReleaseId
    deployment: str
    since: Instant
    at: Instant
    evidence: str = ""
    statement: str = ""
    key: str = ""


class Moment(StrEnum):
    """What somebody outside may want to be told of."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    EMERGENCY = "emergency"
    VERIFIED = "verified"
    POLICY = "policy"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An address that gets a POST at each of the moments in ``on``."""

    url: str
    on: tuple[Moment, ...]
