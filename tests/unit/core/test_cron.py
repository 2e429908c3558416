"""Cron expressions, and freezes as intervals, also where the clocks are changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.core import freezes
from stelae.core.cron import parse
from stelae.domain.errors import InvalidInput
from stelae.domain.promotion import Freeze
from stelae.domain.units import HOUR, MINUTE, SECOND, Instant

VIENNA, UTC_ZONE = ZoneInfo("Europe/Vienna"), ZoneInfo("UTC")
WEEKEND = Freeze(cron="0 18 * * 5", length=62 * HOUR, zone="Europe/Vienna", reason="weekend")


def at(text: str, zone: ZoneInfo = VIENNA, fold: int = 0) -> Instant:
    """The instant at which clocks of *zone* show *text*."""
    moment = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def days(text: str, year: int = 2026) -> set[str]:
    """The days of *year* on which an expression means something."""
    cron, found, day = parse(text), set(), date(year, 1, 1)
    while day.year == year:
        found |= {f"{day:%m-%d}"} if list(cron.on(day)) else set()
        day += timedelta(days=1)
    return found


def times(text: str) -> list[str]:
    return [f"{moment:%H:%M}" for moment in parse(text).on(date(2026, 6, 1))]


def test_minutes_and_hours() -> None:
    assert times("0 18 * * *") == ["18:00"]
    assert times("*/20 9-10 * * *") == ["09:00", "09:20", "09:40", "10:00", "10:20", "10:40"]
    assert times("5,50 0 * * *") == ["00:05", "00:50"]
    assert times("0 20/2 * * *") == ["20:00", "22:00"]
    assert times("59 1-9/4 * * *") == ["01:59", "05:59", "09:59"]
    assert len(times("* * * * *")) == 1440


def test_days() -> None:
    assert days("0 0 1 1 *") == {"01-01"}
    assert days("0 0 24-26 dec *") == {"12-24", "12-25", "12-26"}
    assert days("0 0 * 3 MON") == {"03-02", "03-09", "03-16", "03-23", "03-30"}
    assert days("0 0 * 3 0") == days("0 0 * 3 7") == days("0 0 * 3 sun") == {f"03-{d:02}" for d in (1, 8, 15, 22, 29)}
    assert days("0 0 * 3 5-7") == days("0 0 * 3 fri,sat,sun")
    assert days("0 0 29 2 *", 2026) == set()
    assert days("0 0 29 2 *", 2028) == {"02-29"}


def test_one_of_two_restricted_days_is_enough() -> None:
    assert days("0 0 13 3 5") == {"03-06", "03-13", "03-20", "03-27"}
    assert days("0 0 12 3 5") == {"03-06", "03-12", "03-13", "03-20", "03-27"}
    assert days("0 0 */10 3 1") == {"03-01"} & days("0 0 * 3 1") | {"03-21"} & days("0 0 * 3 1")


BAD = {
    "": "five fields",
    "0 0 * *": "got 4",
    "0 0 * * * *": "got 6",
    "60 0 * * *": "minute: 60 is not from 0 to 59",
    "0 24 * * *": "hour: 24",
    "0 0 0 * *": "day of the month: 0",
    "0 0 32 * *": "day of the month: 32",
    "0 0 * 13 *": "month: 13",
    "0 0 * * 8": "day of the week: 8",
    "0 0 * * frx": "day of the week: 'frx' is not a number or one of sun",
    "0 0 * mon *": "month: 'mon'",
    "x 0 * * *": "minute: 'x' is not a number",
    "0 5-3 * * *": "ends before it begins",
    "*/0 0 * * *": "step of 0",
    "1,,2 0 * * *": "minute: ''",
    "-1 0 * * *": "minute: '-1'",
    "1-2-3 0 * * *": "minute: '1-2-3'",
    "0 0 * * 5#2": "day of the week: '5#2'",
    "0 0 L * *": "day of the month: 'L'",
    "@daily": "got 1",
    "0 0 30 2 *": "no month of these has a day 30",
    "0 0 31 4,6 *": "no month of these has a day 31",
    "٣ 0 * * *": "minute",
    "1\x000 0 * * *": "minute",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(InvalidInput, match=BAD[text].replace("(", r"\(").replace("*", r"\*")):
        parse(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/,-monfrijaexL#? ٣", max_size=24))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        cron = parse(text)
    except InvalidInput:
        return
    assert cron.minutes <= set(range(60))
    assert cron.weekdays <= set(range(7))
    assert all((cron.days, cron.months, cron.hours, cron.minutes, cron.weekdays))


def window(now: str, *given: Freeze) -> tuple[Instant, Instant, str] | None:
    found = freezes.around([(item, ZoneInfo(item.zone)) for item in given or (WEEKEND,)], at(now))
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
    found = freezes.around([(kiritimati, ZoneInfo("Pacific/Kiritimati"))], at("2026-11-22 09:59:59", UTC_ZONE))
    assert found is not None
    assert found.begins == at("2026-11-22 10:00", UTC_ZONE)  # there it is Monday already


def test_those_that_touch_or_overlap_are_one() -> None:
    nights = Freeze(cron="0 20 * * *", length=10 * HOUR, reason="night")
    mornings = Freeze(cron="0 6 * * *", length=HOUR, reason="morning")
    found = freezes.around([(nights, UTC), (mornings, UTC)], at("2026-11-21 22:00", UTC_ZONE))
    assert found is not None
    assert (found.begins, found.ends) == (at("2026-11-21 20:00", UTC_ZONE), at("2026-11-22 07:00", UTC_ZONE))
    assert found.reason == "night"
    inner = Freeze(cron="0 21 * * *", length=HOUR)
    assert freezes.around([(inner, UTC), (nights, UTC)], found.begins) == freezes.around(
        [(nights, UTC)], found.begins
    )


def test_none() -> None:
    assert freezes.around([], at("2026-11-21 22:00")) is None
    leap = Freeze(cron="0 0 29 2 *", length=HOUR)
    assert freezes.around([(leap, UTC)], at("2026-11-21 22:00")) is None


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
    found = freezes.around([(freeze, ZoneInfo(zone))], now)
    if found is None:
        return
    assert found.ends > now
    next_ = freezes.around([(freeze, ZoneInfo(zone))], now + SECOND)
    if found.holds(now) and found.holds(now + SECOND):
        assert next_ is not None
        assert next_.ends >= found.ends
