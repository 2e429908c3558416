"""The fold of what was looked at."""

from __future__ import annotations

from stelae.core import coverage
from stelae.core.folds.table import folds
from stelae.core.owned import changed
from stelae.domain import event as ev
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant
from stelae.domain.watch import DAY, MOST_GAPS, Gap, Watching


@folds(ev.EnvironmentWatched)
def _watched(env: EnvironmentState, event: ev.EnvironmentWatched, at: Instant, actor: str) -> EnvironmentState:
    before = env.watching
    gaps = list(event.gaps)
    if before is not None:
        between = Gap(since=before.until, until=event.since, why=coverage.UNWATCHED)
        gaps = [*before.gaps, *([between] if event.since > before.until else []), *gaps]
    until = max(event.until, before.until if before else 0)
    kept = coverage.fewer(coverage.merged(gaps, until - DAY, until), MOST_GAPS)
    watching = Watching(
        since=before.since if before else event.since, until=until, bound=event.bound, gaps=kept, state=event.state,
        phases=dict(event.phases),
    )  # fmt: skip
    return changed(env, watching=watching)
