"""What is drawn of a seed: the same again for the same seed, and what one part of a life draws moves no other."""

from __future__ import annotations

import random


def drawn(seed: str, part: str = "") -> random.Random:
    """Return the lots of *part* of the life of *seed*."""
    return random.Random(f"{seed} {part}" if part else seed)  # noqa: S311 - no secret: it must be the same again
