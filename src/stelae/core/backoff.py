"""Back-off: an instance that ends unasked, or cannot be launched, is launched again, at once at first, then more
and more slowly."""

from __future__ import annotations

from stelae.domain.release import ReleaseId
from stelae.domain.state import Backoff, Instance
from stelae.domain.units import MINUTE, SECOND, Duration, Instant

STABLE_AFTER: Duration = MINUTE
"""An instance that was ready for this long starts the count anew."""

CAP: Duration = MINUTE
"""The longest wait between two launches."""


def key(release: ReleaseId, process: str) -> str:
    """Return the name under which the ends of *process* of *release* are counted."""
    return f"{release}/{process}"


def after(before: Backoff | None, instance: Instance, at: Instant) -> Backoff:
    """Return the back-off after *instance* ended unasked at *at*: 0, 1, 2, 4, … s, at most ``CAP``."""
    calm = instance.ready_at is not None and at - instance.ready_at >= STABLE_AFTER
    failures = 1 if before is None or calm else before.failures + 1
    wait = 0 if failures == 1 else min(CAP, SECOND << min(failures - 2, 10))
    return Backoff(failures=failures, until=at + wait)
