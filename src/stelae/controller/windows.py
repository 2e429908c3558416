"""Freezes as intervals of time, by the rules of time zones that who calls gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from heapq import merge
from operator import attrgetter

from stelae.core.cron import parse
from stelae.domain.promotion import Freeze, Window
from stelae.domain.units import SECOND, Instant

AHEAD = timedelta(days=32)
"""How far the next freeze is looked for: what waits is looked at again and again."""

ENDLESS = f"it is taken away: it has no end in the next {AHEAD.days} days"
"""How the end is told of a freeze whose windows follow each other for as far as is looked."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_FAR = (AHEAD - timedelta(days=2)) // _MICRO
"""A window that begins so late may have others after it that are not looked at any more."""


def around(freezes: Iterable[tuple[Freeze, tzinfo]], now: Instant) -> Window | None:
    """Return the freeze that is in force at *now*, or else the next one of the coming days; those that touch or
    overlap are one. Each comes with the rules of its zone."""
    found: Window | None = None
    for window in merge(*(_windows(freeze, zone, now) for freeze, zone in freezes), key=attrgetter("begins")):
        if window.ends <= now:
            continue
        if found is None:
            found = window
        elif window.begins <= found.ends:
            later = window if window.ends > found.ends else found
            endless = window.begins - now > _FAR
            found = replace(found, ends=later.ends, until=ENDLESS if endless else later.until)
        else:
            break
    return found


def _windows(freeze: Freeze, zone: tzinfo, now: Instant) -> Iterator[Window]:
    """The windows of *freeze* that may be in force now or in the coming days."""
    cron, length = parse(freeze.cron), timedelta(microseconds=freeze.length)
    local = (_EPOCH + now * _MICRO).astimezone(zone)
    day, last = (local - length - timedelta(days=2)).date(), (local + AHEAD).date()
    while day <= last:
        for hour, minute in cron.on(day.month, day.day, day.isoweekday()):
            begin = datetime.combine(day, time(hour, minute))
            end = begin + length  # by the clocks on the wall, also when they are changed in between
            ends = _instant(end, zone)
            yield Window(begins=_instant(begin, zone), ends=ends, reason=freeze.reason, until=_said(end, zone))
        day += timedelta(days=1)


def _instant(wall: datetime, zone: tzinfo) -> Instant:
    """Return when clocks of *zone* show *wall*: the first time where they do twice; where they skip it, the moment at
    which they skip."""
    aware = wall.replace(tzinfo=zone, fold=0)
    if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
        return _since_epoch(aware)
    # fold=1 reads a skipped time by the offset after the change, fold=0 by that before: the change is in between.
    low, high = _since_epoch(wall.replace(tzinfo=zone, fold=1)), _since_epoch(aware)
    before = _offset(low, zone)
    while high - low > SECOND:
        middle = low + (high - low) // (2 * SECOND) * SECOND
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return high


def _offset(at: Instant, zone: tzinfo) -> timedelta | None:
    return (_EPOCH + at * _MICRO).astimezone(zone).utcoffset()


def _since_epoch(at: datetime) -> Instant:
    return (at - _EPOCH) // _MICRO


def _said(wall: datetime, zone: tzinfo) -> str:
    return f"{wall:%a %Y-%m-%d %H:%M} {zone}"
