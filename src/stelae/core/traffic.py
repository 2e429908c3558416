"""Traffic: which process of a release takes it, and shares in basis points as weights of a proxy."""

from __future__ import annotations

from collections.abc import Mapping

from stelae.domain.allocation import InstanceId
from stelae.domain.process import Process
from stelae.domain.release import Release

MAX_WEIGHT = 256
"""The largest weight of a server in HAProxy."""


def entry(release: Release) -> Process | None:
    """Return the process that requests go to: ``web`` when it has a port, else the first that has one."""
    found = None
    for process in release.processes:
        if process.port is not None:
            if process.name == "web":
                return process
            found = found or process
    return found


def scaled(shares: Mapping[InstanceId, int]) -> dict[InstanceId, int]:
    """Return *shares* (any unit, each above 0) as weights: the largest is 256, none is 0."""
    if not shares:
        return {}
    top = max(shares.values())
    return {name: max(1, (share * MAX_WEIGHT + top // 2) // top) for name, share in shares.items()}
