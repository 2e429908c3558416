"""Limits of another process, set from outside (prlimit(2)): no program has to be started in between."""

from __future__ import annotations

import resource


def lower(pid: int, which: int, value: int) -> None:
    """Set the limit *which* of process *pid*, unless it has a lower one: nobody here may raise one again."""
    _, most = resource.prlimit(pid, which)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.prlimit(pid, which, (value, value))
