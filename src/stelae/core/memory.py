"""Memory: what the limits of all instances come to together, while a rollout goes on and after it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stelae.core.held import boots, is_local
from stelae.domain.allocation import Allocation
from stelae.domain.errors import Refused
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.domain.units import MIB

GUEST = 96 * MIB
"""What the system of a virtual machine has for itself, beside the memory of its process: kernel, initrd, page
tables."""

EMULATOR = 160 * MIB
"""What the program that runs a virtual machine may use beside the machine's own memory."""


def needed(held: Allocation, releases: Mapping[ReleaseId, Release]) -> int:
    """Return the bytes that the instances of *held*, warm ones too, may use together by their limits."""
    return sum(item.total * _limit(releases[item.release], item.process) for item in held.holdings)


def peak(path: Iterable[Allocation], releases: Mapping[ReleaseId, Release]) -> int:
    """Return the most bytes that any allocation of *path* needs."""
    return max((needed(held, releases) for held in path), default=0)


def of_others(env: EnvironmentState, all_of_them: Iterable[EnvironmentState]) -> int:
    """Return the bytes that what the other environments of this machine hold now may use together."""
    others = (other for other in all_of_them if other.id != env.id and is_local(other))
    return sum(needed(other.allocation, other.releases) for other in others)


def of_machines(env: EnvironmentState, all_of_them: Iterable[EnvironmentState]) -> int:
    """Return the bytes that the virtual machines of the other environments take now."""
    others = (other for other in all_of_them if other.id != env.id and boots(other))
    return sum(needed(other.allocation, other.releases) for other in others)


def steady(env: EnvironmentState, wanted: Mapping[str, int]) -> int:
    """Return the bytes that *env* needs at rest when so many instances of each process are wanted: of what serves, or
    is to serve, whichever needs more."""
    comes = (env.stable, env.rollout.candidate if env.rollout is not None else None)
    releases = [env.releases[name] for name in comes if name is not None]
    return max((sum(_limit(it, name) * count for name, count in wanted.items()) for it in releases), default=0)


def admit(env: EnvironmentState, peak: int, others: int, total: int) -> None:
    """Raise Refused when machines of *env*, which take *peak* bytes at most, do not fit into *total* with *others*.

    The limits of containers may come to more than there is, because few use all that they may. A machine does: what
    its process does not use, its kernel keeps files in.
    """
    if not boots(env) or peak + others <= total:
        return
    beside = f", beside {_mib(others)} of other machines" if others else ""
    raise Refused(
        f"the virtual machines of {env.id} need {_mib(peak)} at the most{beside}; this machine has {_mib(total)}",
        hint="want fewer of them, give their processes less memory, or start fewer at once: surge, or --strategy "
        "recreate",
    )


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"


def of_guest(process: int) -> int:
    """Return the memory of a virtual machine whose process may use *process* bytes."""
    return process + GUEST


def of_machine(process: int) -> int:
    """Return the most bytes that a virtual machine whose process may use *process* bytes takes of its host."""
    return of_guest(process) + EMULATOR


def _limit(release: Release, name: str) -> int:
    process = release.process(name)
    if process is None:
        return 0
    return process.memory if release.disk is None else of_machine(process.memory)
