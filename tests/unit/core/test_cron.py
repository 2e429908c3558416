"""Cron expressions."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.core.cron import parse
from stelae.domain.errors import InvalidInput


def days(text: str, year: int = 2026) -> set[str]:
    """The days of *year* on which an expression means something."""
    cron, found, day = parse(text), set(), date(year, 1, 1)
    while day.year == year:
        found |= {f"{day:%m-%d}"} if list(cron.on(day.month, day.day, day.isoweekday())) else set()
        day += timedelta(days=1)
    return found


def times(text: str) -> list[str]:
    return [f"{hour:02}:{minute:02}" for hour, minute in parse(text).on(6, 1, 1)]


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
