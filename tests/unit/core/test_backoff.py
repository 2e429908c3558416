"""Back-off, as a table of waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import backoff
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId
from stelae.domain.state import Backoff, Instance
from stelae.domain.units import MINUTE, SECOND

ONE = Instance(id=InstanceId("web-1"), release=ReleaseId("r-1"), process="web", launched_at=0)
WAITS = [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_ends_in_a_row_wait_longer_and_longer() -> None:
    at, pause, waits = 0, None, []
    for _ in WAITS:
        pause = backoff.after(pause, replace(ONE, launched_at=at), at)
        waits.append((pause.until - at) // SECOND)
        at = pause.until
    assert waits == WAITS


def test_failures_of_an_act_wait_longer_and_longer_and_a_calm_minute_forgets_them() -> None:
    at, pause, waits = 0, None, []
    for _ in WAITS:
        pause = backoff.again(pause, at)
        waits.append((pause.until - at) // SECOND)
        at = pause.until
    assert waits == WAITS
    assert backoff.again(pause, at + MINUTE) == Backoff(failures=1, until=at + MINUTE, since=at + MINUTE)


def test_what_ends_together_counts_once() -> None:
    first = backoff.after(None, ONE, 100)
    assert backoff.after(first, ONE, 100) == first
    assert backoff.after(first, ONE, 100 + SECOND) == first
    assert backoff.after(first, replace(ONE, launched_at=100), 200).failures == 2


def test_an_end_after_a_calm_minute_starts_anew_unless_it_is_of_the_same_moment() -> None:
    before = Backoff(failures=5, until=10 * SECOND)
    calm = replace(ONE, launched_at=20 * SECOND, ready_at=30 * SECOND)
    anew = backoff.after(before, calm, 90 * SECOND)
    assert (anew.failures, anew.until, anew.since) == (1, 90 * SECOND, 90 * SECOND)
    assert backoff.after(before, calm, 89 * SECOND).failures == 6
    old = replace(ONE, ready_at=-MINUTE)
    assert backoff.after(before, old, 9 * SECOND) == before
    assert backoff.after(before, old, 10 * SECOND) == before
    assert backoff.after(before, old, 11 * SECOND).failures == 1


@pytest.mark.parametrize(
    ("flaps", "seconds"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 8), (7, 16), (8, 30), (500, 30)]
)
def test_an_instance_that_flaps_is_held(flaps: int, seconds: int) -> None:
    assert backoff.hold(flaps) == seconds * SECOND


def test_each_traffic_table_is_an_act_of_its_own() -> None:
    def key(table: dict[str, int], *hosts: str) -> str:
        named = {InstanceId(name): weight for name, weight in table.items()}
        return backoff.act_key(Action(verb=Verb.ROUTE, table=named, hosts=hosts))

    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert len({key({"a": 1}), key({"a": 2}), key({"a": 1}, "h"), key({})}) == 4
    assert backoff.act_key(Action(verb=Verb.REMOVE, instance=ONE.id)) == "remove/web-1"


def test_it_says_since_when_why_and_with_which_last_lines() -> None:
    ended = replace(ONE, exit=Exit(code=3, at=100, last_lines=("no database",)))
    first = backoff.after(None, ended, 100)
    assert (first.since, first.why, first.lines) == (100, "exited with status 3", ("no database",))
    second = backoff.after(first, replace(ONE, launched_at=200, failed="no address left"), SECOND)
    assert (second.since, second.why, second.lines) == (100, "could not be launched: no address left", ())
    third = backoff.after(second, replace(ONE, launched_at=3 * SECOND), 4 * SECOND)
    assert (third.failures, third.since, third.why) == (3, 100, "was not ready in time")
    assert backoff.failed_at(third) == 4 * SECOND
    calm = replace(ended, ready_at=5 * SECOND, launched_at=5 * SECOND)
    assert backoff.after(third, calm, 5 * SECOND + MINUTE).since == 5 * SECOND + MINUTE
