"""Strategies: each is a path of allocations, and every step is evaluated anew from what is wanted now.

=============  =====================================================================================
recreate       ``{}`` → ``{new: n}``
rolling        ``{old: n, new: k}`` → ``{old: n - k, new: 2k}`` → … → ``{old: rest, new: n}``
blue-green     ``{old: n, new: n}`` at 100/0 → the same at 0/100
canary         ``{old: n, new: share}`` at 95/5 → … → ``{old: n, new: n}`` at 0/100
=============  =====================================================================================

Processes that move after the traffic (most of those without a port) get a step of their own at the end,
in which the old and the new ones run side by side. When the last step's gate has passed the rollout has
succeeded, and the steady allocation ``{new: n}`` lets the rest of the old release drain and end. A first
deployment, and a return to the stable release itself, have one step: ``{new: n}``.
"""

from __future__ import annotations

from stelae.core import canary, moves, rolling
from stelae.core.moves import Move
from stelae.domain.allocation import FULL_WEIGHT, Allocation
from stelae.domain.strategy import Gate, StrategyKind


def steps(move: Move) -> int:
    """Return how many allocations the path has now; it may change when ``wanted`` does."""
    if move.direct:
        return 1
    if move.strategy.kind is StrategyKind.RECREATE:
        return 2
    late = 1 if moves.has_late(move) else 0
    if move.strategy.kind is StrategyKind.ROLLING:
        return rolling.batches(move) + late
    return moved(move) + 1 + late


def moved(move: Move) -> int:
    """Return the first step in which the candidate has all of the traffic; of a rolling one, and of one that has
    nothing to move away from, the first in which nothing but what moves after the traffic is left."""
    if move.direct:
        return 0
    kind = move.strategy.kind
    if kind is StrategyKind.ROLLING:
        return rolling.batches(move)
    return len(move.strategy.steps) if kind is StrategyKind.CANARY else 1


def next_step(move: Move, step: int) -> Allocation:
    """Return the allocation of *step* (0 to ``steps(move) - 1``; beyond it, the last)."""
    step = min(step, steps(move) - 1)
    if move.direct:
        return moves.steady(move.candidate, move.wanted)
    if move.strategy.kind is StrategyKind.RECREATE:
        return _recreate(move, step)
    if move.strategy.kind is StrategyKind.BLUE_GREEN:
        return _blue_green(move, step)
    if move.strategy.kind is StrategyKind.CANARY:
        return canary.allocation(move, step)
    return rolling.allocation(move, step)


def gate(move: Move, step: int) -> Gate:
    """Return what *step* waits for once it is held. Where all of the traffic has moved nothing is left to decide
    before it: only the soak counts. What has nothing to move away from waits for nothing, and neither does the step
    of a recreate in which nothing runs."""
    usual = move.strategy.gate
    if move.direct or (move.strategy.kind is StrategyKind.RECREATE and step == 0):
        return Gate()
    if step >= moved(move):
        return Gate(soak=usual.soak)
    return move.strategy.steps[step].gate if move.strategy.kind is StrategyKind.CANARY else usual


def weight(move: Move, step: int) -> int | None:
    """Return the candidate's share of the traffic in *step*, in basis points; None where each instance has an equal
    share."""
    return next_step(move, step).weights.get(move.candidate.id)


def _recreate(move: Move, step: int) -> Allocation:
    return Allocation() if step == 0 else Allocation(holdings=moves.all_of(move.candidate, move.wanted))


def _blue_green(move: Move, step: int) -> Allocation:
    assert move.stable is not None
    late = moves.late(move)
    early = {name: count for name, count in move.wanted.items() if name not in late}
    new = moves.all_of(move.candidate, move.wanted if step >= 2 else early)
    old = moves.all_of(move.stable, move.wanted)
    first = step == 0
    return Allocation(
        holdings=old + new,
        weights={move.stable.id: FULL_WEIGHT if first else 0, move.candidate.id: 0 if first else FULL_WEIGHT},
        floor=moves.floor(move.candidate, move.wanted),
        routes=canary.preview(move) if first else (),
    )
