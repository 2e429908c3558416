"""Verdicts: what one part of a gate says of a step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 - no password; the step may go on
    WAIT = "wait"  # not yet; the machine will know
    PERSON = "person"  # a person has to say: a manual gate, or evidence that does not suffice
    FAIL = "fail"  # the rollout must not go on


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An answer, why in words (for PASS: on what evidence), and the lines that show it."""

    answer: Answer
    reason: str = ""
    details: tuple[str, ...] = ()
