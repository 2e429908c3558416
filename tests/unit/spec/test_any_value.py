"""Any value at any path, known to the schema or not: a spec, or an error that names the path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.domain.recipe import AppSpec
from stelae.spec.document import parse
from stelae.spec.schema import SCHEMA
from tests.unit.spec.samples import document, toml
from tests.unit.spec.test_hostile import VALUES

NAMES = {
    "process": "web",
    "env": "testing",
    "tmpfs": "/tmp",
    "processes": "web",
    "settings": "A",
    "stage": "made",
    "job": "migrate",
    "approvals": "ops",
}
"""A name for each table whose keys are free."""

RAW = (
    "1979-05-27T07:32:00Z", "1979-05-27T07:32:00", "07:32:00", "1979-05-27", "0xff", "0o7", "1_000", "-0", "+1",
    "1e400", "-1e400", "nan", "-inf", '"""\n\n"""', "'''\r\n'''", '"\\u202e"', '"\\U0010ffff"', "[[[[]]]]", "{ }",
    "[{}, 1]", f'"{"a" * 70_000}"', str(2**64), "''", "[]", '["", ""]', "true", "[1979-05-27]", "{ a.b.c = 1 }",
)  # fmt: skip
"""Values as TOML writes them, of kinds that no key takes or that people take for others."""

Path = tuple[str, ...]


def places(schema: dict[str, Any], above: Path = ()) -> Iterator[Path]:
    """Yield every path of the schema; [] stands for a list's items."""
    found = {**schema, **_named(schema.get("$ref"))}
    if above:
        yield above
    for key, below in found.get("properties", {}).items():
        yield from places(below, (*above, key))
    if isinstance(found.get("additionalProperties"), dict):
        yield from places(found["additionalProperties"], (*above, NAMES[above[-1]]))
    if "items" in found:
        yield from places(found["items"], (*above, "[]"))


def _named(ref: str | None) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMA["$defs"][ref.rpartition("/")[2]] if ref else {}
    return found


PLACES = sorted(set(places(SCHEMA)))


def put(path: Path, value: Any) -> dict[str, Any]:
    """The small document with *value* at *path*; what lies on the way is made."""
    made = document()
    place: Any = made
    for key, after in zip(path, [*path[1:], None], strict=True):
        own = key if isinstance(place, dict) else 0
        if after is None:
            place[own] = value
        elif isinstance(place, dict):
            below = place.get(key)
            if not isinstance(below, list if after == "[]" else dict):
                place[key] = [None] if after == "[]" else {}
            place = place[key]
        else:
            place[0] = {}
            place = place[0]
    return made


def judge(content: str, path: Path) -> None:
    """Parse; an error has a line for each problem, the path in one of them, and nothing that cannot be printed."""
    try:
        result: AppSpec | InvalidInput = parse(content)
    except InvalidInput as error:
        result = error
    if isinstance(result, InvalidInput):
        lines = result.details or (str(result),)
        assert all(line.startswith("stelae.toml:") and line.isprintable() and len(line) < 1000 for line in lines)
        assert any(path[0] in line.partition(":")[2] for line in lines) or result.where != "stelae.toml", lines


def test_the_places_are_all_that_the_schema_knows() -> None:
    assert {path[0] for path in PLACES} == {"app", "image", "disk", "process", "job", "env"}
    assert ("env", "testing", "strategy", "batch") in PLACES
    assert ("image", "stage", "made", "copy", "[]", "from") in PLACES
    assert len(PLACES) > 70


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_at_any_known_place(path: Path, value: Any) -> None:
    judge(toml(put(path, value)), path)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(RAW))
def test_values_of_any_kind_that_toml_has(path: Path, value: str) -> None:
    judge(toml(put(path, "HERE")).replace('"HERE"', value), path)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([path for path in PLACES if path[-1] != "[]"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    VALUES,
)
def test_any_value_at_a_place_that_is_not_known(path: Path, key: str, value: Any) -> None:
    path = (*path[:-1], key)
    judge(toml(put(path, value)), path if len(path) > 1 else ("",))
