"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. ``hint`` says what to do when it is not ``ok``."""

    name: str
    ok: bool
    text: str
    hint: str = ""
