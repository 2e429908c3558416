"""Freezes as intervals, also where the clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.controller import windows
from stelae.domain.promotion import Freeze
from stelae.domain.units import HOUR, MINUTE, SECOND, Instant

VIENNA, UTC_ZONE = ZoneInfo("Europe/Vienna"), ZoneInfo("UTC")
WEEKEND = Freeze(cron="0 18 * * 5", length=62 * HOUR, zone="Europe/Vienna", reason="weekend")


def at(text: str, zone: ZoneInfo = VIENNA, fold: int = 0) -> Instant:
    """The instant at which clocks of *zone* show *text*."""
    moment = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def window(now: str, *given: Freeze) -> tuple[Instant, Instant, str] | None:
    found = windows.around([(item, ZoneInfo(item.zone)) for item in given or (WEEKEND,)], at(now))
    return (found.begins, found.ends, found.until) if found else None


def test_a_weekend() -> None:
    usual = (at("2026-11-20 18:00"), at("2026-11-23 08:00"), "Mon 2026-11-23 08:00 Europe/Vienna")
    for now in ("2026-11-17 12:00", "2026-11-20 18:00", "2026-11-21 03:00", "2026-11-23 07:59"):
        assert window(now) == usual, now
    assert window("2026-11-23 08:00") == (
        at("2026-11-27 18:00"), at("2026-11-30 08:00"), "Mon 2026-11-30 08:00 Europe/Vienna",
    )  # fmt: skip
    assert usual[1] - usual[0] == 62 * HOUR


def test_a_weekend_in_which_the_clocks_are_changed_ends_when_the_clocks_say() -> None:
    for friday, monday, hours in (("2026-03-27", "2026-03-30", 61), ("2026-10-23", "2026-10-26", 63)):
        found = window(f"{friday} 20:00")
        assert found is not None
        assert found[:2] == (at(f"{friday} 18:00"), at(f"{monday} 08:00"))
        assert found[1] - found[0] == hours * HOUR


def test_a_time_that_the_clocks_skip_is_the_moment_of_the_change() -> None:
    night = Freeze(cron="30 2 * * *", length=15 * MINUTE, zone="Europe/Vienna")
    change = at("2026-03-29 03:00")
    found = window("2026-03-29 00:00", night)
    assert found is not None
    assert found[0] == change
    assert found[1] == change  # all of it was skipped
    longer = Freeze(cron="30 2 * * *", length=2 * HOUR, zone="Europe/Vienna")
    found = window("2026-03-29 00:00", longer)
    assert found is not None
    assert found[:2] == (change, at("2026-03-29 04:30"))


def test_a_time_that_the_clocks_show_twice_begins_the_first_time() -> None:
    night = Freeze(cron="30 2 * * *", length=2 * HOUR, zone="Europe/Vienna")
    found = window("2026-10-25 00:00", night)
    assert found is not None
    assert found[:2] == (at("2026-10-25 02:30"), at("2026-10-25 04:30"))
    assert found[1] - found[0] == 3 * HOUR


def test_the_days_are_those_of_the_zone() -> None:
    kiritimati = Freeze(cron="0 0 * * 1", length=HOUR, zone="Pacific/Kiritimati")
    found = windows.around([(kiritimati, ZoneInfo("Pacific/Kiritimati"))], at("2026-11-22 09:59:59", UTC_ZONE))
    assert found is not None
    assert found.begins == at("2026-11-22 10:00", UTC_ZONE)  # there it is Monday already


def test_those_that_touch_or_overlap_are_one() -> None:
    nights = Freeze(cron="0 20 * * *", length=10 * HOUR, reason="night")
    mornings = Freeze(cron="0 6 * * *", length=HOUR, reason="morning")
    found = windows.around([(nights, UTC), (mornings, UTC)], at("2026-11-21 22:00", UTC_ZONE))
    assert found is not None
    assert (found.begins, found.ends) == (at("2026-11-21 20:00", UTC_ZONE), at("2026-11-22 07:00", UTC_ZONE))
    assert found.reason == "night"
    inner = Freeze(cron="0 21 * * *", length=HOUR)
    assert windows.around([(inner, UTC), (nights, UTC)], found.begins) == windows.around(
        [(nights, UTC)], found.begins
    )


@pytest.mark.parametrize(("cron", "length"), [("0 0 * * *", 24), ("0 0 * * *", 25), ("0 * * * *", 1)])
def test_one_without_an_end_says_that_and_no_date(cron: str, length: int) -> None:
    always = Freeze(cron=cron, length=length * HOUR)
    now = at("2026-11-22 22:00", UTC_ZONE)
    found = windows.around([(always, UTC)], now)
    assert found is not None
    assert found.holds(now)
    assert found.until == "it is taken away: it has no end in the next 32 days"


def test_a_long_one_with_an_end_says_the_date() -> None:
    moratorium = Freeze(cron="0 0 1 11 *", length=60 * 24 * HOUR)
    found = windows.around([(moratorium, UTC)], at("2026-11-22 22:00", UTC_ZONE))
    assert found is not None
    assert found.until == "Thu 2026-12-31 00:00 UTC"


def test_none() -> None:
    assert windows.around([], at("2026-11-21 22:00")) is None
    leap = Freeze(cron="0 0 29 2 *", length=HOUR)
    assert windows.around([(leap, UTC)], at("2026-11-21 22:00")) is None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(at("2026-01-01 00:00"), at("2027-01-01 00:00")),
    st.sampled_from(["Europe/Vienna", "Australia/Lord_Howe", "America/St_Johns", "UTC", "Africa/Casablanca"]),
    st.integers(1, 72),
    st.sampled_from(["0 18 * * 5", "30 2 * * *", "15 3 1 * *", "0 0 * 3,10 0"]),
)
def test_what_is_found_holds_now_or_comes_later(now: Instant, zone: str, hours: int, cron: str) -> None:
    """And what holds a second later is the same, unless it has ended or begun in between."""
    freeze = Freeze(cron=cron, length=hours * HOUR, zone=zone)
    found = windows.around([(freeze, ZoneInfo(zone))], now)
    if found is None:
        return
    assert found.ends > now
    next_ = windows.around([(freeze, ZoneInfo(zone))], now + SECOND)
    if found.holds(now) and found.holds(now + SECOND):
        assert next_ is not None
        assert next_.ends >= found.ends
