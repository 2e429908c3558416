"""Moves: from where to where a rollout goes, and the counts that every strategy is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stelae.domain.allocation import Allocation, Holding
from stelae.domain.process import Moves
from stelae.domain.release import Release
from stelae.domain.strategy import Strategy

WHOLE = 100
"""All, in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From where to where a rollout goes. ``stable`` is None for a first deployment.

    ``keep`` is true when the replaced instances stay warm instead of ending (the environment bakes). Where it is not
    ``exact`` each ready instance gets as many requests as any other, whatever a release should get.
    """

    strategy: Strategy
    wanted: Mapping[str, int]
    candidate: Release
    stable: Release | None
    keep: bool = False
    exact: bool = True

    @property
    def direct(self) -> bool:
        """True when there is nothing to move away from."""
        return self.stable is None or self.stable.id == self.candidate.id


def all_of(release: Release, wanted: Mapping[str, int]) -> tuple[Holding, ...]:
    """Return what is held when *release* alone is."""
    return tuple(
        Holding(release=release.id, process=name, serving=count)
        for name, count in wanted.items()
        if count and release.process(name)
    )


def floor(release: Release, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return the ready capacity that must stay. A process that *release* does not have any more may end, so it has
    no floor."""
    return {name: count for name, count in wanted.items() if count and release.process(name)}


def steady(release: Release, wanted: Mapping[str, int]) -> Allocation:
    """Return the allocation that holds *release* alone."""
    return Allocation(holdings=all_of(release, wanted), floor=floor(release, wanted))


def warm(release: Release, wanted: Mapping[str, int]) -> tuple[Holding, ...]:
    """Return what is held of a replaced release: its processes with a port, without traffic."""
    return tuple(
        Holding(release=release.id, process=name, serving=0, warm=count)
        for name, count in wanted.items()
        if count and ported(release, name)
    )


def ported(release: Release, name: str) -> bool:
    """True when the process *name* of *release* accepts connections."""
    process = release.process(name)
    return process is not None and process.port is not None


def late(move: Move) -> list[str]:
    """Return the names of the processes that move after the traffic."""
    found = []
    for name in move.wanted:
        process = move.candidate.process(name)
        if process is not None and process.port is None and process.moves is Moves.AFTER_TRAFFIC:
            found.append(name)
    return found


def has_late(move: Move) -> bool:
    """True when something moves after the traffic: then the path has a step more."""
    return any(move.wanted[name] for name in late(move))


def surge(count: int, strategy: Strategy) -> int:
    """Return how many instances more than *count* there may be."""
    return -(-count * strategy.surge // WHOLE)


def lowest(move: Move) -> dict[str, int]:
    """Return the floor of a rolling or canary step. With no surge one at least may go: nothing could move else."""
    strategy = move.strategy
    return {
        name: min(-(-count * strategy.floor // WHOLE), count + surge(count, strategy) - 1)
        for name, count in floor(move.candidate, move.wanted).items()
    }


def most(move: Move, holdings: tuple[Holding, ...]) -> dict[str, int]:
    """Return how many instances of each process there may be at a time, empty for any number: what the surge allows,
    and at least what is held."""
    if move.strategy.surge >= WHOLE:
        return {}
    held: dict[str, int] = {}
    for holding in holdings:
        held[holding.process] = held.get(holding.process, 0) + holding.total
    return {name: max(count + surge(count, move.strategy), held.get(name, 0)) for name, count in move.wanted.items()}
