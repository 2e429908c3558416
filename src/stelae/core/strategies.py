"""Strategies: each is a path of allocations, and every step is evaluated anew from what is wanted now.

=============  =====================================================================================
recreate       ``{}`` → ``{new: n}``
rolling        ``{old: n, new: k}`` → ``{old: n - k, new: 2k}`` → … → ``{old: rest, new: n}``
blue-green     ``{old: n, new: n}`` at 100/0 → the same at 0/100
=============  =====================================================================================

Processes that move after the traffic (most of those without a port) get a step of their own at the end,
in which the old and the new ones run side by side. When the last step's gate has passed the rollout has
succeeded, and the steady allocation ``{new: n}`` lets the rest of the old release drain and end. A first
deployment, and a return to the stable release itself, have one step: ``{new: n}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stelae.domain.allocation import FULL_WEIGHT, Allocation, Holding
from stelae.domain.process import Moves
from stelae.domain.release import Release, ReleaseId
from stelae.domain.strategy import Gate, Strategy, StrategyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From where to where a rollout goes. ``stable`` is None for a first deployment.

    ``keep`` is true when the replaced instances stay warm instead of ending (the environment bakes).
    """

    strategy: Strategy
    wanted: Mapping[str, int]
    candidate: Release
    stable: Release | None
    keep: bool = False

    @property
    def direct(self) -> bool:
        """True when there is nothing to move away from."""
        return self.stable is None or self.stable.id == self.candidate.id


def steps(move: Move) -> int:
    """Return how many allocations the path has now; it may change when ``wanted`` does."""
    if move.direct:
        return 1
    if move.strategy.kind is StrategyKind.RECREATE:
        return 2
    late = 1 if any(move.wanted[name] for name in _late(move)) else 0
    if move.strategy.kind is StrategyKind.BLUE_GREEN:
        return 2 + late
    return _batches(move) + late


def next_step(move: Move, step: int) -> Allocation:
    """Return the allocation of *step* (0 to ``steps(move) - 1``; beyond it, the last)."""
    step = min(step, steps(move) - 1)
    if move.direct:
        return steady(move.candidate, move.wanted)
    if move.strategy.kind is StrategyKind.RECREATE:
        return _recreate(move, step)
    if move.strategy.kind is StrategyKind.BLUE_GREEN:
        return _blue_green(move, step)
    return _rolling(move, step)


def gate(move: Move, step: int) -> Gate:
    """Return what *step* waits for once it is held. Where all of the traffic has moved nothing is left to decide
    before it: only the soak counts. What there is nothing to move away from waits for nothing."""
    usual, last_of_old = move.strategy.gate, moved(move)
    if move.direct or (move.strategy.kind is StrategyKind.RECREATE and step == 0):
        return Gate()
    if step >= last_of_old:
        return Gate(soak=usual.soak)
    return move.strategy.steps[step].gate if move.strategy.kind is StrategyKind.CANARY else usual


def moved(move: Move) -> int:
    """Return the first step in which the candidate has all of the traffic; that of a rolling one is beyond its last
    batch."""
    if move.direct:
        return 0
    kind = move.strategy.kind
    if kind is StrategyKind.ROLLING:
        return _batches(move)
    return len(move.strategy.steps) if kind is StrategyKind.CANARY else 1


def steady(release: Release, wanted: Mapping[str, int]) -> Allocation:
    """Return the allocation that holds *release* alone."""
    return Allocation(holdings=_all(release, wanted), floor=_floor(release, wanted))


def warm(release: Release, wanted: Mapping[str, int]) -> tuple[Holding, ...]:
    """Return what is held of a replaced release: its processes with a port, without traffic."""
    return tuple(
        Holding(release=release.id, process=name, serving=0, warm=count)
        for name, count in wanted.items()
        if count and _ported(release, name)
    )


def _all(release: Release, wanted: Mapping[str, int]) -> tuple[Holding, ...]:
    return tuple(
        Holding(release=release.id, process=name, serving=count)
        for name, count in wanted.items()
        if count and release.process(name)
    )


def _floor(release: Release, wanted: Mapping[str, int]) -> dict[str, int]:
    """A process that *release* does not have any more may end, so it has no floor."""
    return {name: count for name, count in wanted.items() if count and release.process(name)}


def _ported(release: Release, name: str) -> bool:
    process = release.process(name)
    return process is not None and process.port is not None


def _late(move: Move) -> list[str]:
    """Names of the processes that move after the traffic."""
    found = []
    for name in move.wanted:
        process = move.candidate.process(name)
        if process is not None and process.port is None and process.moves is Moves.AFTER_TRAFFIC:
            found.append(name)
    return found


def _batch(count: int, percent: int) -> int:
    return max(1, -(-count * percent // 100))


def _batches(move: Move) -> int:
    late = _late(move)
    each = [
        -(-count // _batch(count, move.strategy.batch))
        for name, count in move.wanted.items()
        if count and name not in late
    ]
    return max(each, default=0 if any(move.wanted[name] for name in late) else 1)


def _recreate(move: Move, step: int) -> Allocation:
    if step == 0:
        return Allocation()
    return Allocation(holdings=_all(move.candidate, move.wanted))


def _blue_green(move: Move, step: int) -> Allocation:
    assert move.stable is not None
    late = _late(move)
    early = {name: count for name, count in move.wanted.items() if name not in late}
    new = _all(move.candidate, move.wanted if step >= 2 else early)
    old = _all(move.stable, move.wanted)
    weights: dict[ReleaseId, int] = {
        move.stable.id: FULL_WEIGHT if step == 0 else 0,
        move.candidate.id: 0 if step == 0 else FULL_WEIGHT,
    }
    return Allocation(holdings=old + new, weights=weights, floor=_floor(move.candidate, move.wanted))


def _rolling(move: Move, step: int) -> Allocation:
    assert move.stable is not None
    late, batches = _late(move), _batches(move)
    holdings: list[Holding] = []
    for name, count in move.wanted.items():
        if not count:
            continue
        batch = _batch(count, move.strategy.batch)
        if name in late:
            new, gone = (count, 0) if step >= batches else (0, 0)
        else:
            new, gone = min(count, batch * (step + 1)), min(count, batch * step)
        if move.stable.process(name):
            kept = gone if move.keep and _ported(move.stable, name) else 0
            holdings.append(Holding(release=move.stable.id, process=name, serving=count - gone, warm=kept))
        if new and move.candidate.process(name):
            holdings.append(Holding(release=move.candidate.id, process=name, serving=new))
    kept_holdings = tuple(held for held in holdings if held.total)
    return Allocation(holdings=kept_holdings, floor=_floor(move.candidate, move.wanted))
