"""What a load did: every answer, every failure, every id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.units import Duration, Instant


class Trouble(StrEnum):
    """How a request failed."""

    REFUSED = "refused"  # no connection
    RESET = "reset"  # the connection was reset
    CUT = "cut"  # the connection was closed before the answer was whole
    TIMEOUT = "time-out"
    STATUS = "status"  # answered, with 400 or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request that was answered well. ``version`` and ``instance`` are what the application said of itself."""

    at: Instant
    took: Duration
    method: str
    status: int
    version: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One request that failed. ``at`` is when it was sent; ``id`` is what a POST carried."""

    at: Instant
    took: Duration
    method: str
    trouble: Trouble
    detail: str
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """When a version was seen: the first and the last request that it answered, and how many."""

    first: Instant
    last: Instant
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """All that came of a load. ``ids`` were sent with POST, ``acknowledged`` are those answered well."""

    answers: tuple[Answer, ...]
    failures: tuple[Failure, ...]
    ids: frozenset[str]
    acknowledged: frozenset[str]

    @property
    def sent(self) -> int:
        """Requests that were sent and have ended."""
        return len(self.answers) + len(self.failures)

    @property
    def ok(self) -> int:
        """Requests that were answered well."""
        return len(self.answers)

    @property
    def versions(self) -> dict[str, Sighting]:
        """The versions that answered, in the order in which they were first seen."""
        seen: dict[str, Sighting] = {}
        for answer in sorted(self.answers, key=lambda answer: answer.at):
            before = seen.get(answer.version)
            seen[answer.version] = Sighting(
                first=before.first if before else answer.at, last=answer.at, count=before.count + 1 if before else 1
            )
        return seen

    def percentile(self, share: float, method: str = "") -> Duration:
        """Return the time within which *share* (0 to 100) of the answers came (to *method*, or to any).

        Raises ValueError when there are none.
        """
        times = sorted(answer.took for answer in self.answers if method in ("", answer.method))
        if not times or not 0 <= share <= 100:
            raise ValueError(f"no percentile {share:g} of {len(times)} answers")
        return times[min(len(times) - 1, int(len(times) * share / 100))]

    def lost(self, counts: Mapping[str, int]) -> frozenset[str]:
        """Return the ids that were acknowledged although they were never carried out, by *counts*."""
        return frozenset(identity for identity in self.acknowledged if counts.get(identity, 0) == 0)

    def doubled(self, counts: Mapping[str, int]) -> frozenset[str]:
        """Return the ids of this load that were carried out more than once, by *counts*."""
        return frozenset(identity for identity in self.ids if counts.get(identity, 0) > 1)

    def __str__(self) -> str:
        lines = [f"{self.ok} of {self.sent} requests answered, {len(self.failures)} failed"]
        lines += [f"  {item.at} {item.method} {item.id} {item.trouble}: {item.detail}" for item in self.failures[:20]]
        return "\n".join(lines)
