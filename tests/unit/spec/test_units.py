"""Durations, sizes, cores and shares: read, written, refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.domain.units import GIB, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND
from stelae.spec import units


@pytest.mark.parametrize(
    ("text", "value"),
    [("0s", 0), ("500ms", 500 * MILLISECOND), ("30s", 30 * SECOND), ("10m", 10 * MINUTE), ("1h", HOUR)],
)
def test_duration_is_read_and_written(text: str, value: int) -> None:
    assert units.parse_duration(text) == value
    assert units.format_duration(value) == text


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1.5s", "01s", "1 s", "1S", "1d", "1000000s", "1s\n", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(("text", "value"), [("64KiB", 64 * KIB), ("256MiB", 256 * MIB), ("1GiB", GIB)])
def test_size_is_read_and_written(text: str, value: int) -> None:
    assert units.parse_size(text) == value
    assert units.format_size(value) == text


@pytest.mark.parametrize("text", ["", "0MiB", "1", "1MB", "1mib", "1.5GiB", "-1GiB", "1GiB\n", "9999999GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("value", "thousandths", "text"),
    [(2, 2000, "2"), (0.5, 500, "0.5"), ("0.5", 500, "0.5"), ("1.250", 1250, "1.25"), (0.001, 1, "0.001")],
)
def test_cores_are_read_and_written(value: float | str, thousandths: int, text: str) -> None:
    assert units.parse_cores(value) == thousandths
    assert units.format_cores(thousandths) == text


@pytest.mark.parametrize(
    "value", ["", "0", 0, -1, "-1", 0.0001, "0.0001", 1025, "9999", "1e3", float("nan"), float("inf")]
)
def test_what_is_no_number_of_cores_is_refused(value: float | str) -> None:
    with pytest.raises(InvalidInput, match="expected a number of cores"):
        units.parse_cores(value)


@pytest.mark.parametrize("text", ["0%", "101%", "25", "2.5%", "-1%", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a share"):
        units.parse_percent(text)


@given(st.integers(min_value=0, max_value=999_999), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_written_duration_is_the_same_span(number: int, unit: str) -> None:
    value = units.parse_duration(f"{number}{unit}")
    text = units.format_duration(value)
    assert text.endswith("us") is False
    factor = {"ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}[text.lstrip("0123456789")]
    assert int(text.rstrip("msh")) * factor == value


@given(st.integers(min_value=1, max_value=1_024_000))
def test_written_cores_read_back(thousandths: int) -> None:
    assert units.parse_cores(units.format_cores(thousandths)) == thousandths


def test_what_no_unit_holds_is_written_exactly() -> None:
    assert units.format_duration(1_500) == "1500us"
    assert units.format_size(1000) == "1000B"
