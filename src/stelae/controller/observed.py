"""What was observed of environments and instances, and when nobody looked: from the watches that are recorded, and
from the one that goes on now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stelae.controller.watching import Watches
from stelae.core import coverage
from stelae.core.coverage import Coverage
from stelae.core.lives import Life
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import EnvironmentWatched
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant
from stelae.domain.watch import DAY
from stelae.ledger.history.about import named
from stelae.ledger.history.index import History
from stelae.ledger.store import Ledger

Json = dict[str, Any]

SHOWN = 20
"""So many gaps are told, the newest ones; the share counts them all."""


class Observed:
    """Answers by the watches in *ledger*, found by *history*, and by those of this controller."""

    def __init__(self, ledger: Ledger, history: History, watches: Watches) -> None:
        self._ledger = ledger
        self._history = history
        self._watches = watches

    def watched(self, environment: str, since: Instant, until: Instant) -> list[EnvironmentWatched]:
        """Return the watches over *environment* that touch the time from *since* to *until*, in order."""
        end = self._ledger.index_at(until)
        indexes = self._history.events([named("w", environment)], self._ledger.index_at(since))
        found = []
        for index in indexes:
            (item,) = self._ledger.read(index, index + 1)
            if isinstance(item.event, EnvironmentWatched):
                found.append(item.event)
                if index >= end and item.event.since >= until:
                    break
        standing = self._watches.of(EnvironmentId(environment)).standing
        return [*found, standing] if standing is not None else found

    def environment(self, env: EnvironmentState, at: Instant, size: int) -> Json:
        """Return what was observed of *env*, as it was at *at* after *size* events, in the day before."""
        watching = env.watching
        then = self._next(env.id, size)
        at = self._known(env.id, at)
        begun = [watch.since for watch in (watching, then) if watch is not None]
        since = max(at - DAY, min(begun, default=at))
        if not begun or since >= at:
            return {"since": None, "until": at, "share": None, "gaps": []}
        pieces: list[EnvironmentWatched] = []
        if watching is not None:
            pieces.append(EnvironmentWatched(since=watching.since, until=watching.until, looks=1, gaps=watching.gaps))
        found = coverage.looks([*pieces, *([then] if then else [])], since, at)
        return {"since": since, "until": at, **told(found)}

    def _next(self, name: EnvironmentId, size: int) -> EnvironmentWatched | None:
        """The watch that was under way after *size* events: it was recorded later, or is not yet."""
        for index in self._history.events([named("w", name)], size):
            (item,) = self._ledger.read(index, index + 1)
            return item.event if isinstance(item.event, EnvironmentWatched) else None
        return self._watches.of(name).standing

    def _known(self, name: str, at: Instant) -> Instant:
        """Return up to when it can be told at *at*: of the time since the last look just now, nobody knows yet."""
        standing = self._watches.of(EnvironmentId(name)).standing
        recent = standing is not None and 0 <= at - standing.until <= standing.bound
        return standing.until if standing is not None and recent else at

    def life(self, environment: str, life: Life, watched: Sequence[EnvironmentWatched], until: Instant) -> Json:
        """Return in which of its life, up to *until*, an instance was looked at, and inspected."""
        since = life.started_at if life.started_at is not None else life.launched_at
        end = self._known(environment, min(life.over_at if life.over_at is not None else until, until))
        looks = coverage.looks(watched, since, max(since, end))
        inspections = coverage.inspections(watched, life.id, since, max(since, end))
        return {
            "observed": {"since": since, "until": end, **told(looks)},
            "inspected": {"since": since, "until": end, **told(inspections)},
        }


def told(found: Coverage) -> Json:
    """Return a coverage as JSON."""
    gaps = [{"since": gap.since, "until": gap.until, "why": gap.why} for gap in found.gaps[-SHOWN:]]
    return {"share": found.share, "gaps": gaps}
