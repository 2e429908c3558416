"""What checks outside say of a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.units import Instant


class CheckVerdict(StrEnum):
    """What a check said when it was asked. SILENT: it gave no answer, or none that makes sense."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    WAIT = "wait"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """What a check said in ``step``: how often it was against the candidate (``failures``) or gave no answer
    (``silences``), in a row, whether it was in favour last, when it was asked last, and its last words.

    ``based`` is true once it was asked about the old release, and ``was_bad`` when it was against that one too.
    """

    based: bool = False
    was_bad: bool = False
    step: int = -1
    asked_at: Instant = 0
    failures: int = 0
    silences: int = 0
    passed: bool = False
    words: str = ""
