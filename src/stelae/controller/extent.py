"""Extent: how many instances one environment may have, which the record sets.

An entry of the record takes 65,535 bytes, and a traffic table is one entry: it names every instance that gets
traffic, in a rolling replacement those of two releases. So does an allocation that names instances which hang. More
than fits is refused when it is asked for, or the environment's loop could record nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.release import SHORT
from stelae.ledger.codec import MAX_LEAF

_ENVELOPE = 1024
"""Bytes of an entry beside what it lists: the envelope, holdings, weights."""

_RELEASES = 2
"""So many releases can have instances in one entry."""

_AN_INSTANCE = len('"--1000000":256,') + SHORT - len("r-")
"""Bytes of an instance in a table, beside the name of its process: ``"web-c04xvt-3":256,``."""


def check(environment: EnvironmentId, wanted: Mapping[str, int], hosts: Sequence[str]) -> None:
    """Raise InvalidInput when *wanted*, instances by process, are more than an entry of the record can name."""
    room = MAX_LEAF - _ENVELOPE - sum(len(host) + len('"",') for host in hosts)
    needed = {name: _RELEASES * count * (len(name) + _AN_INSTANCE) for name, count in wanted.items()}
    if sum(needed.values()) <= room:
        return
    largest = max(needed, key=lambda name: needed[name])
    rest = sum(needed.values()) - needed[largest]
    most = max(0, (room - rest) // (_RELEASES * (len(largest) + _AN_INSTANCE)))
    raise InvalidInput(
        f"{environment}: {sum(wanted.values())} instances are more than an entry of the record can name",
        hint=f"with the other counts as they are, at most {largest}={most}; or make two environments of it",
    )
