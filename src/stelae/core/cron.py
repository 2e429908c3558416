"""Cron expressions: five fields that say at which minutes of which days something begins. Pure, without time zones.

Source: crontab(5) of Debian's cron: minute, hour, day of the month, month, day of the week; each ``*``, numbers,
ranges and lists of them, with a step after ``/``; names of three letters for months and days, 0 and 7 for Sunday.
Where both days are restricted, one of them is enough. ``@daily`` and the like are not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stelae.domain.errors import InvalidInput

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, tuple(_MONTHS)),
    ("day of the week", 0, 7, tuple(_DAYS)),
)
_PART = re.compile(r"(\*|[0-9a-z]{1,3}(?:-[0-9a-z]{1,3})?)(?:/([0-9]{1,2}))?", re.IGNORECASE)
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Cron:
    """The minutes that an expression means; ``either`` says that one of the two days is enough."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @property
    def a_day(self) -> int:
        """How often it comes on a day on which it does."""
        return len(self.minutes) * len(self.hours)

    def on(self, month: int, day: int, weekday: int) -> Iterator[tuple[int, int]]:
        """Yield the hours and minutes of a day (*weekday* is 0 or 7 for Sunday) that clocks show, in their order."""
        if month not in self.months or not self._fits(day, weekday % 7):
            return
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                yield hour, minute

    def _fits(self, day: int, weekday: int) -> bool:
        in_month, in_week = day in self.days, weekday in self.weekdays
        return in_month or in_week if self.either else in_month and in_week


def parse(text: str) -> Cron:
    """Return what *text* means; raises InvalidInput that names the field which is wrong."""
    words = text.split()
    if len(words) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise InvalidInput(f"expected five fields ({names}), got {len(words)}")
    found = [_field(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    weekdays = frozenset(day % 7 for day in found[4])
    # As crontab(5) has it: a field that begins with * restricts nothing.
    either = not words[2].startswith("*") and not words[4].startswith("*")
    cron = Cron(found[0], found[1], found[2], found[3], weekdays, either)
    if not either and all(min(cron.days) > _LONGEST_MONTHS[month - 1] for month in cron.months):
        raise InvalidInput(f"no month of these has a day {min(cron.days)}")
    return cron


def _field(word: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise InvalidInput(f"{name}: {part!r} is not a number, a range such as 1-5, or *")
        span, step = match[1], match[2]
        if span == "*":
            first, last = low, high
        else:
            begin, _, end = span.partition("-")
            first = _number(begin, name, low, high, names)
            last = _number(end, name, low, high, names) if end else first if step is None else high
        if last < first:
            raise InvalidInput(f"{name}: {part!r} ends before it begins")
        if step is not None and int(step) == 0:
            raise InvalidInput(f"{name}: {part!r} has a step of 0")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + low
    if not text.isdecimal():
        raise InvalidInput(f"{name}: {text!r} is not a number" + (f" or one of {', '.join(names)}" if names else ""))
    if not low <= int(text) <= high:
        raise InvalidInput(f"{name}: {text} is not from {low} to {high}")
    return int(text)
