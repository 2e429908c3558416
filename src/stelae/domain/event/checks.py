"""Events of checks: what somebody outside said of a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.check import CheckVerdict
from stelae.domain.event.base import Event, known


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckMeasured(Event):
    """A check of the strategy was asked in ``step``; in step -1 about the old release, to know how it was before.
    ``value`` is the number that came, as it came, "" for none, and ``reason`` what was said in words."""

    kind: ClassVar[str] = "check.measured"
    deployment: str
    step: int
    check: str
    verdict: CheckVerdict
    value: str = ""
    reason: str = ""
