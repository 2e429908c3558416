"""Spans, sizes and shares as a spec writes them: ``"30s"``, ``"256MiB"``, ``"0.5"`` cores, ``"25%"``.

Durations are integers of microseconds, sizes integers of bytes, cores integers of thousandths of a core.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from stelae.domain.errors import InvalidInput
from stelae.domain.units import GIB, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND, Duration

DURATION_PATTERN = r"^(0|[1-9][0-9]{0,5})(ms|s|m|h)$"
POSITIVE_DURATION_PATTERN = r"^[1-9][0-9]{0,5}(ms|s|m|h)$"
SIZE_PATTERN = r"^[1-9][0-9]{0,5}(KiB|MiB|GiB)$"
CORES_PATTERN = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"
PERCENT_PATTERN = r"^([1-9][0-9]?|100)%$"

DURATION_FORM = 'a duration: a whole number and ms, s, m or h, such as "500ms", "30s", "10m", "1h"'
POSITIVE_DURATION_FORM = 'a duration above 0: a whole number and ms, s, m or h, such as "500ms", "30s", "10m"'
SIZE_FORM = 'a size: a whole number and KiB, MiB or GiB, such as "256MiB", "1GiB"'
CORES_FORM = 'a number of cores above 0 and at most 1024, in steps of 0.001, such as 2 or "0.5"'
PERCENT_FORM = 'a share from "1%" to "100%"'

MAX_CORES = 1024

_DURATIONS = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND}
_SIZES = {"GiB": GIB, "MiB": MIB, "KiB": KIB}


def parse_duration(text: str) -> Duration:
    """Return *text* (``"500ms"``, ``"30s"``, ``"10m"``, ``"1h"``) in microseconds; raises InvalidInput."""
    return _parse(text, DURATION_PATTERN, _DURATIONS, DURATION_FORM)


def format_duration(duration: Duration) -> str:
    """Return *duration* in the largest unit that holds it exactly; what no unit holds, in ``us``."""
    return _format(duration, _DURATIONS, zero="0s", rest="us")


def parse_size(text: str) -> int:
    """Return *text* (``"64KiB"``, ``"256MiB"``, ``"1GiB"``) in bytes; raises InvalidInput."""
    return _parse(text, SIZE_PATTERN, _SIZES, SIZE_FORM)


def format_size(size: int) -> str:
    """Return *size* in the largest unit that holds it exactly; what no unit holds, in ``B``."""
    return _format(size, _SIZES, zero="0B", rest="B")


def parse_cores(value: float | str) -> int:
    """Return a number of cores (``2``, ``0.5`` or ``"0.5"``) in thousandths of a core; raises InvalidInput."""
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, str) and not re.fullmatch(CORES_PATTERN, value):
        raise InvalidInput(f"expected {CORES_FORM}")
    try:
        thousandths = Decimal(text) * 1000
        whole = int(thousandths)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidInput(f"expected {CORES_FORM}") from error
    if whole != thousandths or not 0 < whole <= MAX_CORES * 1000:
        raise InvalidInput(f"expected {CORES_FORM}")
    return whole


def format_cores(thousandths: int) -> str:
    """Return *thousandths* of a core as a number of cores, such as ``0.5``."""
    whole, rest = divmod(thousandths, 1000)
    return f"{whole}.{rest:03}".rstrip("0") if rest else str(whole)


def parse_percent(text: str) -> int:
    """Return *text* (``"25%"``) as a whole number of percent; raises InvalidInput."""
    if not re.fullmatch(PERCENT_PATTERN, text):
        raise InvalidInput(f"expected {PERCENT_FORM}")
    return int(text.removesuffix("%"))


def format_percent(percent: int) -> str:
    """Return *percent* with its sign, such as ``25%``."""
    return f"{percent}%"


def _parse(text: str, pattern: str, units: dict[str, int], form: str) -> int:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise InvalidInput(f"expected {form}")
    number = re.match("[0-9]+", text)
    assert number is not None  # the pattern begins with digits
    return int(number.group()) * units[text[number.end() :]]


def _format(value: int, units: dict[str, int], *, zero: str, rest: str) -> str:
    if value == 0:
        return zero
    for unit, factor in units.items():
        if value % factor == 0:
            return f"{value // factor}{unit}"
    return f"{value}{rest}"
