"""How long to wait before the next attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Jitter = Callable[[], float]
"""Gives a number from 0 up to 1, another each time: many that failed at once do not come back at once."""

_FIRST = 0.1  # seconds
_LONGEST = 15.0
_MOST_ASKED = 60.0  # seconds that a server may ask to wait


@dataclass(slots=True)
class Backoff:
    """Pauses, in seconds: each twice as long as the one before, of which the jitter takes up to a half."""

    jitter: Jitter
    failures: int = 0

    def pause(self, asked: float = 0.0) -> float:
        """Count a failure, and return how long to wait: *asked* by the server at least, within reason."""
        longest = min(_FIRST * float(2 ** min(self.failures, 16)), _LONGEST)
        self.failures += 1
        asked = min(asked, _MOST_ASKED)
        return max(asked, longest / 2) + self.jitter() * longest / 2

    def reset(self) -> None:
        """Begin again: it worked."""
        self.failures = 0


def retry_after(header: str | None) -> float:
    """Return the seconds that a ``Retry-After`` (RFC 9110, 10.2.3) says, 0 where it says none; a date is none."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0
