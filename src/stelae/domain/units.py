"""Units: every time and span is an integer number of microseconds, every size a number of bytes."""

from __future__ import annotations

Instant = int
"""A point in time: microseconds since 1970-01-01T00:00:00Z."""

Duration = int
"""A span of time in microseconds."""

MILLISECOND: Duration = 1_000
SECOND: Duration = 1_000_000
MINUTE: Duration = 60 * SECOND
HOUR: Duration = 60 * MINUTE

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
