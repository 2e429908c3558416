"""Documents that mean harm, or are no documents: a typed error in good time, never another exception."""

import copy
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.domain.recipe import AppSpec
from stelae.spec.document import parse
from stelae.spec.schema import SCHEMA
from tests.unit.spec.samples import document, toml

GOOD_TIME = 20.0  # seconds; what this guards against takes hours or all memory


def refuse(content: str | bytes) -> InvalidInput:
    began = time.monotonic()
    with pytest.raises(InvalidInput) as caught:
        parse(content)
    assert time.monotonic() - began < GOOD_TIME
    assert len(str(caught.value)) < 1000
    return caught.value


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[app\n", "stelae.toml:1:5"),
        ("[app]\nname = \n", "stelae.toml:2:8"),
        ("[app]\nname = 'x", "stelae.toml:2:10"),
        ("[app]\nname = 'x'\nname = 'y'\n", "stelae.toml:3:11"),
        (b"[app]\nname = '\xff'\n", "stelae.toml:2:9"),
    ],
)
def test_what_cannot_be_read_is_named_by_line_and_column(content: str | bytes, where: str) -> None:
    assert refuse(content).where == where


def test_half_a_surrogate_pair() -> None:
    assert "not Unicode" in str(refuse('[app]\nname = "\ud800"'))


def test_more_than_one_mebibyte() -> None:
    assert "larger than 1024 KiB" in str(refuse(b"#" * (1024 * 1024 + 1)))
    assert "larger" not in str(refuse(b"#" * (1024 * 1024)))


@pytest.mark.parametrize("depth", [17, 200, 100_000])
def test_deep_lists(depth: int) -> None:
    assert "nested deeper" in str(refuse("a = " + "[" * depth + "]" * depth))


def test_deep_tables() -> None:
    assert "nested deeper" in str(refuse("[" + ".".join("a" * 20) + "]"))


@pytest.mark.parametrize("part", ["a", '"a"', "'!'", "a ", '"."'])
def test_keys_of_very_many_parts(part: str) -> None:
    error = refuse("[app]\n" + ".".join([part] * 100_000) + " = 1")
    assert "more than 32 parts" in str(error)
    assert error.where == "stelae.toml:2"


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "0x" + "f" * 100_000, str(2**63), str(-(2**63) - 1), "nan", "inf", "-inf", "1e999", "-0.0", "1e308"],
)
def test_numbers_of_any_size(value: str) -> None:
    for path in ("process.web.port", "process.web.cpu", "process.web.drain", "app.name", "zzz"):
        kept = document()
        text = toml({key: table for key, table in kept.items() if key != path.split(".")[0]})
        refuse(f"{text}\n{path} = {value}\n")


@pytest.mark.parametrize("control", ["\\u0000", "\\n", "\\u001b[31m", "\\u007f", "\\u0085"])
@pytest.mark.parametrize("path", ["app.name", "image.run", "process.web.command", "env.testing.settings.A"])
def test_control_characters_in_values(control: str, path: str) -> None:
    value: object = "xCONTROL" if path.endswith(("name", ".A")) else ["xCONTROL"]
    error = refuse(toml(document({path: value})).replace("CONTROL", control))
    assert "without control characters" in str(error)
    assert path in str(error)


def test_control_characters_in_keys() -> None:
    made = toml(document({"env.testing.settings": {"CONTROL": "x"}})).replace("CONTROL", "A\\u0000")
    error = refuse(made)
    assert "\x00" not in str(error)
    assert "expected a key without control characters, got one with U+0000" in str(error)


MANY = ", ".join(f"q{i} = 1" for i in range(4_000))
FEW = ", ".join(f"q{i} = 1" for i in range(50))


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"k{i} = 1\n" for i in range(100_000)),
        "a = [" + "1," * 500_000 + "]",
        "".join(f"[env.e{i}]\n" for i in range(9_000)),
        "".join(f"[process.p{i}]\nport = {i}\n" for i in range(4_000)),
        "".join(f"pakage{i} = 1\n" for i in range(9_000)),
        "[env.a]\nhosts = [" + '"a.example",' * 9_000 + "]",
        "[env.a]\nhosts = ['" + "a-" * 400_000 + "']",
        "[env.a]\nhosts = ['" + "a." * 400_000 + "']",
        "[image]\npython = '" + "a/" * 400_000 + "..'",
        "[image]\nexclude = ['" + "a/" * 400_000 + "..']",
        "[image]\nrun = ['" + " " * 900_000 + "']",
        "[app]\n" + "n" * 900_000 + " = 1",
        "x = '" + "'\nx = '".join(["a"] * 1000) + "'",
        "[process.web.tmpfs]\n" + "".join(f"'/t{i}' = '1MiB'\n" for i in range(2_000)),
        "".join(f"[env.e{i}]\npromote_from = 'e{i + 1}'\n" for i in range(3_000)),
        "".join(f"[process.p{i}]\n" for i in range(4_000)) + f"[env.a]\nprocesses = {{{MANY}}}",
        "".join(f"[process.p{i}]\n" for i in range(40))
        + "".join(f"[env.e{i}]\nprocesses = {{{FEW}}}\n" for i in range(50)),
    ],
    ids=range(17),
)
def test_large_documents_are_judged_in_good_time(text: str) -> None:
    error = refuse(text)
    assert len(error.details) <= 201
    assert all(len(line) < 1000 for line in error.details)


KEYS = sorted({key for table in [SCHEMA, *SCHEMA["$defs"].values()] for key in table.get("properties", {})})
WORDS = st.one_of(
    st.sampled_from([*KEYS, "web", "worker", "testing", "staging", "canary", "rolling", "recreate", "volumes", "job",
                     "30s", "64MiB", "25%", "0.5", "/tmp", "debian:bookworm", "oci:x@sha256:", "scratch", "uv.lock",
                     "build", "package-lock.json", "npmrc"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)  # fmt: skip
SCALARS = st.one_of(WORDS, st.integers(), st.booleans(), st.floats())
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(WORDS, below, max_size=4), max_leaves=12
)


def paths(value: object, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [above]
    return [above, *(path for key, item in value.items() for path in paths(item, (*above, key)))]


FULL = document(
    {
        "image.packages": ["python3"],
        "image.copy": [{"from": "build", "path": "/app/x", "to": "/app/y"}],
        "image.files": ["src"],
        "image.secrets": ["npmrc"],
        "image.run": ["make"],
        "image.limits": {"time": "1m", "memory": "1GiB", "disk": "1GiB"},
        "image.stage.build": {"base": "debian:bookworm", "run": ["make"], "node": "package-lock.json"},
        "process.web.health": {"path": "/", "interval": "1s"},
        "process.web.tmpfs": {"/tmp": "1MiB"},
        "process.web.cpu": "0.5",
        "env.testing.settings": {"A": "b"},
        "env.testing.hosts": ["a.example"],
        "env.testing.strategy": {"kind": "rolling", "batch": "25%"},
    }
)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A right document in which a few values were replaced and a few keys added."""
    made = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(paths(FULL)[1:]))
        place: Any = made
        for name in parents:
            place = place[name] if isinstance(place, dict) and isinstance(place.get(name), dict) else {}
        key = last if draw(st.booleans()) else draw(WORDS)
        place[key] = draw(VALUES)
    return made


def outcome(content: str | bytes) -> None:
    try:
        result: AppSpec | InvalidInput = parse(content)
    except InvalidInput as error:
        result = error
    if isinstance(result, InvalidInput):
        assert str(result).startswith("stelae.toml")
        assert all(line.startswith("stelae.toml: ") for line in result.details)
        assert "".join((str(result), *result.details)).isprintable()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_a_damaged_document_gives_a_value_or_a_typed_error(made: dict[str, Any]) -> None:
    outcome(toml(made))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=6))
def test_any_document_gives_a_value_or_a_typed_error(made: dict[str, Any]) -> None:
    outcome(toml(made))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text("[]{}=.,'\"\n#\\ua0 1x", max_size=60))
def test_any_bytes_give_a_typed_error(content: str | bytes) -> None:
    outcome(content)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_flipped_byte_gives_a_value_or_a_typed_error(data: st.DataObject) -> None:
    content = bytearray(toml(FULL).encode())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    outcome(bytes(content))
