"""What the proxy counts of each release: how it is told to, how it tells, and what is kept of workers that ended.

A worker has an array of counters for each release (a stick table's ``gpc``) under the release's token: one for each
bucket of latencies and one for the answers with a status of 500 or more. Requests that got no answer are counted by a
few lines of Lua, the only thing in HAProxy 2.6 that can count them by the server that they went to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stelae.domain.environment import EnvironmentId
from stelae.domain.release import ReleaseId
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.system.files import write_atomic

TABLE = "counts"
BUCKETS = len(BOUNDS) + 1
FAULTS = BUCKETS  # the number of the counter of answers with a status of 500 or more
COUNTERS = BUCKETS + 1
TOKEN_LENGTH = 16
MOST_ENDED = 16  # workers that ended are told apart for so long

SHOW_ALL = (f"show table {TABLE}", "show unanswered")

SCRIPT = b"""\
local unanswered = {}

core.register_fetches("unanswered", function(txn)
  local token = txn:get_var("txn.token")
  if token == nil then return 0 end
  unanswered[token] = (unanswered[token] or 0) + 1
  return unanswered[token]
end)

core.register_cli({"show", "unanswered"}, "show unanswered [token]", function(applet, _, _, wanted)
  for token, count in pairs(unanswered) do
    if wanted == nil or wanted == "" or wanted == token then
      applet:send("unanswered " .. token .. " " .. count .. "\\n")
    end
  end
end)
"""
"""The Lua that counts requests without an answer; ``show unanswered`` tells them."""


def token_of(environment: EnvironmentId, release: ReleaseId) -> str:
    """Return the name that a release of an environment has in the proxy, and towards users in their cookie."""
    return hashlib.sha256(f"{environment}\n{release}".encode()).hexdigest()[:TOKEN_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What was counted of one release: ``answered`` has the counters in their order."""

    answered: tuple[int, ...] = (0,) * COUNTERS
    unanswered: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            answered=tuple(a + b for a, b in zip(self.answered, other.answered, strict=True)),
            unanswered=self.unanswered + other.unanswered,
        )

    def traffic(self, began: int) -> Traffic:
        """Return it in the words of the domain."""
        latency = self.answered[:BUCKETS]
        return Traffic(
            requests=sum(latency) + self.unanswered, errors=self.answered[FAULTS] + self.unanswered,
            latency=latency, began=began,
        )  # fmt: skip


Counts = dict[str, Count]
"""By the token of the release."""


def show(tokens: Iterable[str]) -> list[str]:
    """Return the commands that show the counts of these releases."""
    return [line for token in tokens for line in (f"show table {TABLE} key {token}", f"show unanswered {token}")]


def read_line(line: str, counts: Counts) -> bool:
    """Add what a line of an answer tells to *counts*; False when it is of another kind."""
    if not line.startswith(("0x", "unanswered ", "# table: ")):
        return False
    fields = line.split(" ")
    if fields[0] == "unanswered" and len(fields) == 3:
        counts[fields[1]] = counts.get(fields[1], Count()) + Count(unanswered=int(fields[2]))
    elif line.startswith("0x") and len(fields) > COUNTERS and fields[1].startswith("key="):
        # 0x…: key=TOKEN use=0 exp=0 gpc0=1 gpc1=0 …
        values = dict(item.split("=", 1) for item in fields[1:])
        answered = tuple(int(values[f"gpc{n}"]) for n in range(COUNTERS))
        counts[values["key"]] = counts.get(values["key"], Count()) + Count(answered=answered)
    elif not line.startswith(f"# table: {TABLE},"):
        return False
    return True


def added(parts: Iterable[Mapping[str, Count]]) -> Counts:
    """Return the sums of *parts*."""
    total: Counts = {}
    for part in parts:
        for token, count in part.items():
            total[token] = total.get(token, Count()) + count
    return total


@dataclass(slots=True, kw_only=True)
class Kept:
    """What the supervisor keeps so that no count is lost with a worker that ends in peace.

    ``began`` is when the counting began, in microseconds since 1970: anew whenever a worker took counts with it.
    ``ended`` is what workers that ended had counted, by generation; such a worker is not asked any more.
    """

    began: int = 0
    ended: dict[int, Counts] = field(default_factory=dict)

    def begin_anew(self) -> None:
        """Counts were lost: what is counted from now on has nothing to do with what was."""
        self.began = max(self.began + 1, time.time_ns() // 1000)

    def end(self, generation: int, counts: Counts) -> None:
        """Keep what a worker had counted that takes no more requests."""
        self.ended[generation] = counts
        while len(self.ended) > MOST_ENDED:
            first, second, *_ = sorted(self.ended)
            self.ended[second] = added([self.ended.pop(first), self.ended[second]])

    def save(self, path: Path) -> None:
        """Write it; raises OSError."""
        ended = {
            generation: {token: [*count.answered, count.unanswered] for token, count in counts.items()}
            for generation, counts in self.ended.items()
        }
        write_atomic(path, json.dumps({"began": self.began, "ended": ended}).encode(), mode=0o600, durable=False)


def read_kept(path: Path) -> Kept:
    """Return what was saved; a counting that never began when there is nothing, or nothing that makes sense."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        document = json.loads(path.read_bytes())
        ended = {
            int(generation): {token: _count(numbers) for token, numbers in counts.items()}
            for generation, counts in document["ended"].items()
        }
        return Kept(began=int(document["began"]), ended=ended)
    return Kept()


def _count(numbers: list[int]) -> Count:
    *answered, unanswered = map(int, numbers)
    if len(answered) != COUNTERS:
        raise ValueError("another set of counters")
    return Count(answered=tuple(answered), unanswered=unanswered)


def total(
    parts: Collection[Mapping[str, Count]], kept: Kept, tokens: Mapping[ReleaseId, str]
) -> dict[ReleaseId, Traffic]:
    """Return what *parts* and the workers that ended counted of each release of *tokens*; nothing
    when no supervisor says since when it is counted."""
    if not kept.began:
        return {}
    counts = added([*parts, *kept.ended.values()])
    return {release: counts.get(token, Count()).traffic(kept.began) for release, token in tokens.items()}
