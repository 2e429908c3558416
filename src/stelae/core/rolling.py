"""The rolling strategy: batch by batch, each as many as the surge and the floor allow."""

from __future__ import annotations

from stelae.core import moves
from stelae.core.moves import Move
from stelae.domain.allocation import Allocation, Holding


def batches(move: Move) -> int:
    """Return how many steps the processes take that move with the traffic."""
    late = moves.late(move)
    each = [-(-count // _batch(move, count)) for name, count in move.wanted.items() if count and name not in late]
    return max(each, default=0 if moves.has_late(move) else 1)


def allocation(move: Move, step: int) -> Allocation:
    """Return what is held in *step*: a batch more of the candidate, and of the stable release what the step before
    did not replace yet (less, where the surge does not allow so many)."""
    assert move.stable is not None
    late, last = moves.late(move), batches(move)
    holdings: list[Holding] = []
    for name, count in move.wanted.items():
        if not count:
            continue
        batch = _batch(move, count)
        if name in late:
            new, gone = (count, 0) if step >= last else (0, 0)
        else:
            new, gone = min(count, batch * (step + 1)), min(count, batch * step)
        gone = max(gone, new - moves.surge(count, move.strategy))
        if move.stable.process(name):
            stays = move.keep and moves.ported(move.stable, name) and move.strategy.surge >= moves.WHOLE
            warm = gone if stays else 0
            holdings.append(Holding(release=move.stable.id, process=name, serving=count - gone, warm=warm))
        if new and move.candidate.process(name):
            holdings.append(Holding(release=move.candidate.id, process=name, serving=new))
    held = tuple(one for one in holdings if one.total)
    return Allocation(holdings=held, floor=moves.lowest(move), most=moves.most(move, held))


def _batch(move: Move, count: int) -> int:
    """How many of *count* instances a step adds."""
    return move.strategy.batch_count or max(1, -(-count * move.strategy.batch // moves.WHOLE))
