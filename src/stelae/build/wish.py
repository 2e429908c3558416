"""What is asked of the steps that take something from elsewhere."""

from __future__ import annotations

from enum import StrEnum


class Wish(StrEnum):
    """What is asked: as locked (without a lock: as it was made before), or anew, for a new lock."""

    LOCKED = "locked"
    KEEP = "keep"
    """What is locked and still asked for stays, the rest is resolved."""
    NEWEST = "newest"
