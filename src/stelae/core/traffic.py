"""Traffic: which process of a release takes it, and shares in basis points as weights of a proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from stelae.domain.allocation import InstanceId
from stelae.domain.process import Process
from stelae.domain.release import Release, ReleaseId

MAX_WEIGHT = 256
"""The largest weight of a server in HAProxy."""

_UNIT = 100_000
"""What makes the parts of a weight whole numbers, near enough."""


def entry(release: Release) -> Process | None:
    """Return the process that requests go to: ``web`` when it has a port, else the first that has one."""
    found = None
    for process in release.processes:
        if process.port is not None:
            if process.name == "web":
                return process
            found = found or process
    return found


def shares(
    groups: Mapping[ReleaseId, Sequence[InstanceId]], weights: Mapping[ReleaseId, int], parts: Mapping[ReleaseId, int]
) -> dict[InstanceId, int]:
    """Return each instance's share when its release gets its weight (in any unit): a part of it, of as many parts as
    *parts* says of the release, else as there are instances."""
    return {
        name: weights[release] * _UNIT // parts.get(release, len(names))
        for release, names in groups.items()
        if weights.get(release)
        for name in names
    }


def scaled(shares: Mapping[InstanceId, int]) -> dict[InstanceId, int]:
    """Return *shares* (any unit, each above 0) as weights of at most 256, none of them 0, such that each instance's
    part of the whole is as near as can be to what it should be."""
    if not shares:
        return {}
    weights = _weights(tuple(sorted(Counter(shares.values()).items())))
    return {name: weights[share] for name, share in shares.items()}


@lru_cache(maxsize=1024)  # deciding asks for the same again and again
def _weights(counted: tuple[tuple[int, int], ...]) -> Mapping[int, int]:
    """Return the weight of each share; *counted* has each share and how many instances have it."""
    top, whole = counted[-1][0], sum(share * count for share, count in counted)
    if len(counted) == 1:
        return {top: MAX_WEIGHT}
    best: tuple[Fraction, dict[int, int]] | None = None
    for highest in range(MAX_WEIGHT, 0, -1):
        weights = {share: max(1, (share * highest + top // 2) // top) for share, _ in counted}
        total = sum(weights[share] * count for share, count in counted)
        off = sum(
            (abs(Fraction(weights[share], total) - Fraction(share, whole)) * count for share, count in counted),
            Fraction(0),
        )
        if best is None or off < best[0]:
            best = off, weights
    assert best is not None
    return best[1]
