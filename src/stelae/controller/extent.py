"""Extent: how many instances there may be, which the record and the addresses set. Of a process that is scaled its
most counts, or it could not be scaled when it has to be.

A leaf of the record takes 65,535 bytes, and a traffic table is one event: it names every instance that gets
traffic, in a rolling replacement those of two releases. So does an allocation that names instances which hang. A
longer event would be held beside the record, at each step of each rollout; so more than fits into a leaf is refused
when it is asked for. (The proxy holds 4,000 instances of an environment, which is more than that.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stelae.core.held import is_local
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.release import SHORT
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.ledger.codec import MAX_LEAF

_ENVELOPE = 1024
"""Bytes of an entry beside what it lists: the envelope, holdings, weights."""

_RELEASES = 2
"""So many releases can have instances in one entry."""

_AN_INSTANCE = len('"--1000000":256,') + SHORT - len("r-")
"""Bytes of an instance in a table, beside the name of its process: ``"web-c04xvt-3":256,``."""


def most(environment: Environment, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return how many instances of each process *environment* may come to have, where *wanted* are asked for."""
    limits = {name: scaling.most for name, scaling in environment.scaling.items()}
    return {name: max(count, limits.get(name, 0)) for name, count in wanted.items()}


def check_addresses(state: InstallationState, chosen: Sequence[EnvironmentState], addresses: int) -> None:
    """Raise InvalidInput when all environments of *state* that this machine holds, once *chosen* are among them, may
    come to have more instances than there are *addresses*, and *chosen* are why."""

    def total(of: Mapping[EnvironmentId, EnvironmentState]) -> int:
        here = [(env.config, env.wanted) for env in of.values() if is_local(env)]
        return sum(sum(most(config, wanted).values()) for config, wanted in here if config is not None)

    before = total(state.environments)
    after = total({**state.environments, **{env.id: env for env in chosen}})
    if after > max(before, addresses):
        raise InvalidInput(
            f"all environments together may come to have {after} instances, and there are {addresses} addresses",
            hint="lower counts or their max, or give the controller a larger network: controller run --subnet",
        )


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
