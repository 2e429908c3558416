"""Watching environments: each look is counted, and from time to time it is recorded that there was nothing else.

A watch begins with a look and ends with one. What a controller that died had seen since it last recorded a watch is
not claimed by the next: that time counts as not observed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from stelae.core import coverage
from stelae.domain.allocation import InstanceId
from stelae.domain.canonical import canonical
from stelae.domain.drift import Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import EnvironmentWatched
from stelae.domain.observation import Observation
from stelae.domain.units import Duration, Instant
from stelae.domain.watch import EVERY, INSPECTION_BOUND, LOOK_BOUND, MOST_GAPS, WHOLE, Gap
from stelae.ledger.store import Draft

_NOBODY = "nobody looked"
_SILENT = "the platform did not answer"
_PART = "a part of the platform could not be asked"

MOST_MISSED = 100
"""Of so many instances it is told when they were not inspected; of more, that all were missed."""

LONGEST_WHY = 120
"""Characters of why one was not inspected: all of a watch is one event, which the loop records before it acts."""

_MANY = f"more than {MOST_MISSED} instances were not inspected"


class Watch:
    """The watch over one environment, since it was recorded last."""

    def __init__(self, every: Duration = EVERY) -> None:
        self._every = every
        self._since: Instant | None = None
        self._last: Instant = 0
        self._looks = 0
        self._gaps: list[Gap] = []
        self._why = ""
        self._phases: dict[str, str] = {}
        self._inspected: Instant = 0
        self._inspections = 0
        self._missed: dict[InstanceId, list[Gap]] = {}
        self._last_inspected: dict[InstanceId, Instant] = {}

    def looked(self, seen: Observation | None) -> None:
        """Count a look; one that gave nothing, or not all, is none. Nor is one that is older than the one before."""
        if seen is None or not seen.complete:
            self._why = _SILENT if seen is None else _PART
            return
        at = seen.as_of
        if self._since is None:
            self._since = self._last = at
        elif at <= self._last:
            return
        elif at - self._last > LOOK_BOUND:
            self._gaps.append(Gap(since=self._last, until=at, why=self._why or _NOBODY))
        self._last = at
        self._why = ""
        self._looks += 1
        self._phases = {name: str(one.phase) for name, one in seen.instances.items()}

    def inspected(self, found: Inspection) -> None:
        """Count an inspection of all instances; of those that it missed it is told."""
        at = found.as_of
        if self._since is None or at <= self._inspected:
            return
        if self._inspected and at - self._inspected > INSPECTION_BOUND:
            self._miss(WHOLE, self._inspected, at, coverage.UNINSPECTED)
        self._inspected = at
        self._inspections += 1
        for name in found.inspected:
            before = self._last_inspected.get(name, 0)
            if before and at - before > INSPECTION_BOUND:
                self._miss(name, before, at, "it could not be inspected")
        for name, why in found.missed.items():
            self._missed_now(name, at, why)
        self._last_inspected.update(dict.fromkeys(found.inspected, at))

    def _missed_now(self, name: InstanceId, at: Instant, why: str) -> None:
        """Say that *name* was not inspected since it last was, or since this watch began."""
        assert self._since is not None
        before = self._last_inspected.get(name, self._since)
        if at - before > INSPECTION_BOUND:
            self._miss(name, before, at, why)

    def _miss(self, name: InstanceId, since: Instant, until: Instant, why: str) -> None:
        found = self._missed.setdefault(name, [])
        if found and found[-1].since == since:  # it goes on
            found.pop()
        found.append(Gap(since=since, until=until, why=why))

    @property
    def standing(self) -> EnvironmentWatched | None:
        """What would be recorded of it now; None while there was no look."""
        if self._since is None or not self._looks:
            return None
        gaps = coverage.fewer(coverage.merged(self._gaps, self._since, self._last), MOST_GAPS)
        return EnvironmentWatched(
            since=self._since, until=self._last, looks=self._looks, gaps=gaps,
            phases=dict(sorted(Counter(self._phases.values()).items())), state=digest_of(self._phases),
            inspections=self._inspections, missed=self._all_missed(),
        )  # fmt: skip

    def _all_missed(self) -> Mapping[InstanceId, tuple[Gap, ...]]:
        assert self._since is not None
        missed = {name: list(gaps) for name, gaps in self._missed.items()}
        begun = self._inspected or self._since
        if self._inspections and self._last - begun > INSPECTION_BOUND:
            missed.setdefault(WHOLE, []).append(Gap(since=begun, until=self._last, why=coverage.UNINSPECTED))
        if len(missed) > MOST_MISSED:
            missed = {WHOLE: [replace(gap, why=_MANY) for gaps in missed.values() for gap in gaps]}
        whole = (self._since, self._last)
        found = {name: coverage.merged(gaps, *whole) for name, gaps in sorted(missed.items())}
        each = MOST_GAPS // max(10, len(found))
        return {
            name: tuple(replace(gap, why=gap.why[:LONGEST_WHY]) for gap in coverage.fewer(gaps, each))
            for name, gaps in found.items()
            if gaps
        }

    def due(self) -> bool:
        """True when it has lasted long enough to be recorded."""
        return self._since is not None and self._last - self._since >= self._every

    def recorded(self, event: EnvironmentWatched) -> None:
        """Go on from the end of *event*, which was recorded."""
        self._since = event.until
        self._looks -= event.looks
        self._inspections -= event.inspections
        self._gaps = [gap for gap in self._gaps if gap.until > event.until]
        self._missed = {}
        self._last_inspected = {name: at for name, at in self._last_inspected.items() if name in self._phases}


class Watches:
    """The watches over all environments; each is recorded when it has lasted for *every*."""

    def __init__(self, every: Duration = EVERY) -> None:
        self._every = every
        self._watches: dict[EnvironmentId, Watch] = {}

    def of(self, environment: EnvironmentId) -> Watch:
        """Return the watch over *environment*."""
        if environment not in self._watches:
            self._watches[environment] = Watch(self._every)
        return self._watches[environment]

    def ends(self) -> list[Draft]:
        """Return what is to be recorded when the controller ends."""
        found = [(name, watch.standing) for name, watch in sorted(self._watches.items())]
        return [
            Draft(event=event, actor="controller", environment=name)
            for name, event in found
            if event is not None and event.until > event.since
        ]


def digest_of(phases: Mapping[str, str]) -> str:
    """Return the SHA-256 of the canonical JSON of instance to phase."""
    return sha256(canonical(dict(sorted(phases.items())))).hexdigest()
