"""Times and other moments of the record as people write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from stelae.domain.errors import InvalidInput
from stelae.domain.units import HOUR, MINUTE, SECOND, Instant

_UNITS = {"s": SECOND, "sec": SECOND, "second": SECOND, "m": MINUTE, "min": MINUTE, "minute": MINUTE, "h": HOUR,
          "hour": HOUR, "d": 24 * HOUR, "day": 24 * HOUR, "w": 168 * HOUR, "week": 168 * HOUR}  # fmt: skip


_MOMENT = re.compile(r"@[0-9]{1,15}|d-[0-9]{1,15}")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")

FORMS = "A local time (2026-11-19 14:00, 14:00), an ISO 8601 time, '10 min ago' (or 10min), @EVENT, or a deployment."
"""What ``parse_moment`` takes, for the help of an option."""


def parse_moment(text: str, now: Instant) -> str:
    """Return the moment of the record that *text* says, as the controller takes it: a time (see ``parse_time``), the
    number of an event after ``@``, or a deployment. Raises InvalidInput."""
    words = text.strip()
    return words if _MOMENT.fullmatch(words) else str(parse_time(words, now))


def parse_time(text: str, now: Instant) -> Instant:
    """Return the time that *text* says: ``now``, ``10 min ago``, ``2h``, ``14:00`` (the last time that it was), or
    ISO 8601 with or without the T and a zone.

    Without a zone it is local time. Raises InvalidInput for anything else, and for a time that is still to come.
    """
    words = text.strip()
    if words == "now":
        return now
    ago = re.fullmatch(r"([0-9]{1,9}) ?([a-z]+) ago", words) or re.fullmatch(r"([0-9]{1,9})([a-z]+)", words)
    clock = _CLOCK.fullmatch(words)
    if clock:
        instant = _last(now, *(int(part or 0) for part in clock.groups()))
    elif ago and (unit := _UNITS.get(ago[2], _UNITS.get(ago[2].removesuffix("s")))):
        instant = now - int(ago[1]) * unit
    else:
        try:
            instant = int(datetime.fromisoformat(words).astimezone().timestamp() * 1_000_000)
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidInput(
                f"not a time: {text!r}", hint="for example 2026-11-19 14:00, 2026-11-19T14:00:00Z or '10 min ago'"
            ) from error
    if instant > now:
        raise InvalidInput(f"{text} is still to come")
    if instant < 0:
        raise InvalidInput(f"{text} is before 1970")
    return instant


def _last(now: Instant, hour: int, minute: int, second: int) -> Instant:
    """Return when it was *hour*:*minute*:*second* last, by the clock here."""
    here = datetime.fromtimestamp(now / SECOND).astimezone()
    then = here.replace(hour=hour, minute=minute, second=second, microsecond=0)
    return int((then if then <= here else then - timedelta(days=1)).timestamp() * SECOND)
