"""Events of the witnesses of the log: whose cosignatures are asked for, and which of them refused one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.digest import Digest
from stelae.domain.event.base import Event, known


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPolicySet(Event):
    """Who has to cosign the log's checkpoints from now on: ``text`` is a C2SP tlog-policy, "" for nobody; ``digest``
    is that of the text."""

    kind: ClassVar[str] = "witness.policy"
    text: str
    digest: Digest


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRefused(Event):
    """A witness (its name in the policy) that has seen ``seen`` events of this log did not cosign its first ``size``,
    because they do not go on from there."""

    kind: ClassVar[str] = "witness.refused"
    witness: str
    seen: int
    size: int
    reason: str = ""
