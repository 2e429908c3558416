"""The canary strategy: a growing share of the requests, and chosen users, go to the candidate.

The candidate has as many instances as its share needs, at least one. The stable release keeps all of its own while
the surge allows it, so that going back is a change of weights; with less surge it keeps what its share needs.

Where a share comes of how many instances are ready there are no weights while both serve, but as many instances of
each as come near the share; a step of nothing, and one of all, lead to one release alone.
"""

from __future__ import annotations

from stelae.core import moves
from stelae.core.moves import Move
from stelae.domain.allocation import FULL_WEIGHT, Allocation, Holding, Route, RouteKind
from stelae.domain.release import ReleaseId
from stelae.domain.strategy import Match, MatchKind

_KINDS = {MatchKind.HEADER: RouteKind.HEADER, MatchKind.COOKIE: RouteKind.COOKIE}


def allocation(move: Move, step: int) -> Allocation:
    """Return what is held in *step*: one for each weight, then the candidate has all of the traffic, then what moves
    after it does."""
    assert move.stable is not None
    steps = move.strategy.steps
    weight = steps[step].weight if step < len(steps) else FULL_WEIGHT
    whole = weight in (0, FULL_WEIGHT)
    late = moves.late(move)
    holdings: list[Holding] = []
    for name, count in move.wanted.items():
        if name in late:
            new = count if step > len(steps) else 0
            old = count - max(0, new - moves.surge(count, move.strategy))
        else:
            new, old = _counts(move, count, weight) if whole or move.exact else _by_ratio(move, count, weight)
        pairs = ((move.stable, old), (move.candidate, new))
        holdings += [Holding(release=of.id, process=name, serving=n) for of, n in pairs if n and of.process(name)]
    weights: dict[ReleaseId, int] = {move.stable.id: FULL_WEIGHT - weight, move.candidate.id: weight}
    held = tuple(holdings)
    return Allocation(
        holdings=held,
        weights=weights if whole or move.exact else {},
        floor=moves.lowest(move),
        routes=routes(move) if step < len(steps) else (),
        most=moves.most(move, held),
    )


def routes(move: Move) -> tuple[Route, ...]:
    """Return what leads to the candidate whatever the weights are, while it shares the traffic."""
    found = preview(move)
    found += tuple(_route(match, move.candidate.id) for match in move.strategy.matches)
    if move.strategy.sticky:
        found += (Route(kind=RouteKind.STICKY, release=move.candidate.id),)
    return found


def preview(move: Move) -> tuple[Route, ...]:
    """Return the route of the host name by which the candidate can be looked at before it has all of the traffic."""
    name = move.strategy.preview
    return (Route(kind=RouteKind.HOST, name=name, release=move.candidate.id),) if name else ()


def _route(match: Match, release: ReleaseId) -> Route:
    return Route(kind=_KINDS[match.kind], name=match.name, value=match.value, release=release)


def _counts(move: Move, count: int, weight: int) -> tuple[int, int]:
    """Instances of the candidate and of the stable release, of *count* that are wanted, at *weight*."""
    spare = moves.surge(count, move.strategy)
    if not count or weight == FULL_WEIGHT:
        return count, min(count, spare)
    new = max(1, -(-count * weight // FULL_WEIGHT))
    needed = -(-count * (FULL_WEIGHT - weight) // FULL_WEIGHT)
    return new, max(needed, min(count, count + spare - new))


def _by_ratio(move: Move, count: int, weight: int) -> tuple[int, int]:
    """Instances of the candidate and of the stable release that come near *weight* by their numbers: all of the
    stable ones and some new ones up to a half, then all of the new ones and fewer and fewer old ones; with less surge
    a part of as many as there may be."""
    if not count:
        return 0, 0
    rest = FULL_WEIGHT - weight
    new = min(count, max(1, _rounded(count * weight, rest)))
    old = count if weight <= rest else min(count, max(1, _rounded(count * rest, weight)))
    limit = count + moves.surge(count, move.strategy)
    if new + old > limit:
        new = min(count, max(1, _rounded(limit * weight, FULL_WEIGHT)))
        old = min(count, limit - new)
    return new, old


def _rounded(part: int, whole: int) -> int:
    return (2 * part + whole) // (2 * whole)
