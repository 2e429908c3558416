"""Coverage: what is claimed of a time, and what is missing."""

from __future__ import annotations

from typing import Any

from stelae.core import coverage
from stelae.core.coverage import Coverage
from stelae.core.evolve import evolve, evolve_all
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import EnvironmentWatched
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND
from stelae.domain.watch import DAY, MOST_GAPS, WHOLE, Gap

A = InstanceId("web-1")


def watch(since: int, until: int, *gaps: tuple[int, int], **more: Any) -> EnvironmentWatched:
    found = tuple(Gap(since=a, until=b, why="nobody looked") for a, b in gaps)
    return EnvironmentWatched(since=since, until=until, looks=9, gaps=found, **more)


def times(found: Coverage) -> list[tuple[int, int]]:
    return [(gap.since, gap.until) for gap in found.gaps]


def test_without_a_watch_nothing_is_covered() -> None:
    found = coverage.looks([], 100, 200)
    assert (times(found), found.share, found.missing) == ([(100, 200)], 0, 100)


def test_watches_that_meet_cover_all_of_it() -> None:
    found = coverage.looks([watch(50, 120), watch(120, 180), watch(180, 300)], 100, 200)
    assert (times(found), found.share) == ([], 10_000)


def test_what_is_before_between_and_after_watches_is_missing_and_so_are_their_gaps() -> None:
    found = coverage.looks([watch(110, 150, (120, 130)), watch(160, 190)], 100, 200)
    assert times(found) == [(100, 110), (120, 130), (150, 160), (190, 200)]
    assert found.share == 6_000


def test_gaps_that_meet_are_one_and_what_is_outside_does_not_count() -> None:
    found = coverage.looks([watch(0, 150, (10, 40), (90, 110), (110, 120)), watch(155, 400, (155, 160))], 100, 200)
    assert times(found) == [(100, 120), (150, 160)]


def test_hardly_any_gap_is_not_all() -> None:
    assert coverage.looks([watch(0, 10**9, (5, 6))], 0, 10**9).share == 9_999


def test_an_instance_that_no_inspection_reached() -> None:
    gap = Gap(since=120, until=130, why="it could not be inspected")
    found = [
        watch(100, 150, inspections=3, missed={A: (gap,)}),
        watch(150, 180, inspections=0),
        watch(180, 200, inspections=2, missed={WHOLE: (Gap(since=190, until=200),)}),
    ]
    assert times(coverage.inspections(found, A, 100, 200)) == [(120, 130), (150, 180), (190, 200)]
    assert times(coverage.inspections(found, InstanceId("web-2"), 100, 200)) == [(150, 180), (190, 200)]


def test_the_state_has_the_gaps_of_the_last_day_those_between_watches_too() -> None:
    env = EnvironmentState(id=EnvironmentId("shop/test"))
    env = evolve(env, watch(0, 100 * SECOND, (5, 6)), 0)
    env = evolve(env, watch(200 * SECOND, 300 * SECOND), 0)
    assert env.watching is not None
    assert (env.watching.since, env.watching.until) == (0, 300 * SECOND)
    assert [(gap.since, gap.until) for gap in env.watching.gaps] == [(5, 6), (100 * SECOND, 200 * SECOND)]
    env = evolve(env, watch(300 * SECOND, DAY + 150 * SECOND), 0)
    assert env.watching is not None
    assert [(gap.since, gap.until) for gap in env.watching.gaps] == [(150 * SECOND, 200 * SECOND)]


def test_very_many_gaps_are_told_as_fewer_that_claim_no_more() -> None:
    each = [watch(n * 10 * SECOND, n * 10 * SECOND + SECOND) for n in range(3 * MOST_GAPS)]
    env = evolve_all(EnvironmentState(id=EnvironmentId("shop/test")), each, 0)
    assert env.watching is not None
    gaps = env.watching.gaps
    assert len(gaps) == MOST_GAPS
    assert gaps[0].since == SECOND
    for item in each[1:]:
        assert any(gap.since <= item.since - 9 * SECOND and item.since <= gap.until for gap in gaps)
