"""Times as people write them."""

from __future__ import annotations

import re
from datetime import datetime

from stelae.domain.errors import InvalidInput
from stelae.domain.units import HOUR, MINUTE, SECOND, Instant

_UNITS = {"s": SECOND, "sec": SECOND, "second": SECOND, "m": MINUTE, "min": MINUTE, "minute": MINUTE, "h": HOUR,
          "hour": HOUR, "d": 24 * HOUR, "day": 24 * HOUR, "w": 168 * HOUR, "week": 168 * HOUR}  # fmt: skip


def parse_time(text: str, now: Instant) -> Instant:
    """Return the time that *text* says: ``now``, ``10 min ago``, or ISO 8601 with or without the T and a zone.

    Without a zone it is local time. Raises InvalidInput for anything else, and for a time that is still to come.
    """
    words = text.strip()
    if words == "now":
        return now
    ago = re.fullmatch(r"([0-9]{1,9}) ?([a-z]+) ago", words)
    if ago and (unit := _UNITS.get(ago[2], _UNITS.get(ago[2].removesuffix("s")))):
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
