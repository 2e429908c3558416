"""The one place that reads the clock."""

from __future__ import annotations

import time

from stelae.domain.units import Instant


def now() -> Instant:
    """Return the time in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000
