"""Counts: how a worker's answer is read, and what is kept of workers that ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.domain.environment import EnvironmentId
from stelae.domain.release import ReleaseId
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.platforms.local.proxy.counts import (
    BUCKETS,
    COUNTERS,
    FAULTS,
    MOST_ENDED,
    Count,
    Counts,
    Kept,
    added,
    read_kept,
    read_line,
    show,
    token_of,
    total,
)

RELEASE = ReleaseId("r-one")
TOKEN = token_of(EnvironmentId("a/b"), RELEASE)


def count(number: int, unanswered: int = 0) -> Count:
    answered = [0] * COUNTERS
    answered[3], answered[FAULTS] = number, number // 2
    return Count(answered=tuple(answered), unanswered=unanswered)


def line(token: str, counted: Count) -> str:
    return f"0x55d0: key={token} use=0 exp=0 " + " ".join(f"gpc{n}={c}" for n, c in enumerate(counted.answered))


def test_an_answer_is_read() -> None:
    counts: Counts = {}
    for text in ("# table: counts, type: string, size:10000, used:1", line(TOKEN, count(7)), f"unanswered {TOKEN} 2"):
        assert read_line(text, counts)
    assert counts == {TOKEN: count(7, 2)}
    for text in ("0x55d0 x.example b0", "unanswered", "0 b0 1 s0", "", "# be_id be_name", "0x1: key=a gpc0=1"):
        assert not read_line(text, counts)
    assert counts == {TOKEN: count(7, 2)}
    assert show([TOKEN]) == [f"show table counts key {TOKEN}", f"show unanswered {TOKEN}"]


def test_what_is_counted_in_the_words_of_the_domain() -> None:
    traffic = count(7, 2).traffic(5)
    assert (traffic.requests, traffic.errors, sum(traffic.latency)) == (9, 5, 7)
    assert (len(traffic.latency), traffic.latency[3]) == (len(BOUNDS) + 1, 7)
    assert len(traffic.latency) == BUCKETS


def test_workers_that_ended_count_on(tmp_path: Path) -> None:
    kept = Kept()
    assert total([{TOKEN: count(1)}], kept, {RELEASE: TOKEN}) == {}, "nobody says since when it is counted"
    kept.begin_anew()
    for generation in range(1, 40):
        kept.end(generation, {TOKEN: count(2, 1)})
    kept.save(tmp_path / "counts.json")
    again = read_kept(tmp_path / "counts.json")
    assert again == kept
    assert len(again.ended) == MOST_ENDED
    assert max(again.ended) == 39
    found = total([{TOKEN: count(4)}, {}], again, {RELEASE: TOKEN})[RELEASE]
    assert (found.requests, found.errors) == (39 * 3 + 4, 39 * 2 + 2)
    assert added([{}, {}]) == {}


def test_counting_anew_is_never_the_same_counting(tmp_path: Path) -> None:
    kept = Kept()
    seen = set()
    for _ in range(100):
        kept.begin_anew()
        seen.add(kept.began)
    assert len(seen) == 100


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"began": 1}', b'{"began": 1, "ended": {"x": {}}}', b"\xff",
        b'{"began": 1, "ended": {"1": {"t": [1, 2]}}}', b'{"began": 1, "ended": {"1": {"t": "x"}}}',
    ],
)  # fmt: skip
def test_a_broken_file_is_a_counting_that_never_began(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "counts.json").write_bytes(data)
    assert read_kept(tmp_path / "counts.json") == Kept()
    assert read_kept(tmp_path / "none.json") == Kept()


def test_an_interval_of_two_countings_is_unknown() -> None:
    before, after = Traffic(requests=5, began=1), Traffic(requests=9, began=2)
    assert after.since(before) is None
    assert after.since(Traffic()) == after
    assert Traffic(requests=2, latency=(1, 1)).since(Traffic(requests=1, latency=(1,))) is None
    assert Traffic().since(before) is None
    assert Traffic(requests=4, began=1).since(before) is None
    assert Traffic(requests=6, began=1).since(before) == Traffic(requests=1, began=1)
