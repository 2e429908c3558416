"""The published schema, the annotated example and the page say the same as the parser."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from stelae.domain import environment, job, process, recipe, scaling, strategy
from stelae.domain.errors import InvalidInput
from stelae.spec import schema, units
from stelae.spec.document import parse
from stelae.spec.refused import VOLUMES, later_keys
from tests.unit.spec.samples import document, toml

DOCS = Path(__file__).parents[3] / "docs"


def keys(part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that a table of the schema has, with what the schema says of it."""
    for name, below in part.get("properties", {}).items():
        yield name, below
        yield from keys(below)


def every_key() -> Iterator[tuple[str, dict[str, Any]]]:
    for part in [schema.SCHEMA, *schema.SCHEMA["$defs"].values()]:
        yield from keys(part)


def all_keys() -> dict[str, dict[str, Any]]:
    return dict(every_key())


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    published = files("stelae.spec").joinpath("stelae.schema.json").read_text("utf-8")
    assert published == schema.published(), "write stelae.schema.json again from schema.published()"
    assert json.loads(published) == schema.SCHEMA


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema.SCHEMA)


def test_every_value_of_the_schema_says_what_it_expects() -> None:
    for name, part in schema.SCHEMA["$defs"].items():
        assert part["title"], name
    for name, part in all_keys().items():
        assert "$ref" in part or part["title"], name


def test_every_key_is_in_the_annotated_example() -> None:
    def names(value: object) -> set[str]:
        if isinstance(value, list):
            return set[str]().union(*map(names, value))
        if not isinstance(value, dict):
            return set()
        return set(value).union(*(names(below) for below in value.values()))

    written = names(tomllib.loads((DOCS / "stelae.toml").read_text()))
    (other,) = re.findall(r"```toml\n(.*?)```", (DOCS / "dockerfile.md").read_text(), re.DOTALL)
    assert parse(other).recipe.dockerfile  # what does not go with the other keys of [image]
    written |= names(tomllib.loads(other))
    assert set(all_keys()) <= written


def test_the_annotated_example_is_right_and_explains_every_line() -> None:
    text = (DOCS / "stelae.toml").read_text()
    assert parse(text).app == "guestbook"
    first = set()
    for line in text.splitlines():
        if (match := re.match(r"([a-z_.]+) = ", line)) and match[1] not in first:
            first.add(match[1])
            assert "  # " in line or match[1] == "kind", line


def test_the_small_documents_of_the_page_are_right() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / "spec.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    assert [parse(block).app for block in blocks] == ["hello", "hello"]


@pytest.mark.parametrize("parent", [(), ("process", "web"), ("env", "x", "strategy")])
def test_no_key_is_both_known_and_refused(parent: tuple[str, ...]) -> None:
    part: dict[str, Any] = schema.SCHEMA
    for name in parent:
        part = part["properties"].get(name) if name in part.get("properties", {}) else part["additionalProperties"]
        if "$ref" in part:
            part = schema.SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[-1]]
    assert later_keys(parent)
    page = (DOCS / "spec.md").read_text()
    assert [key for key in sorted(later_keys(parent)) if f"`{key}`" not in page] == []
    assert not (later_keys(parent) | VOLUMES) & set(part["properties"])


def test_the_defaults_that_the_schema_tells_are_those_of_the_domain() -> None:
    told: dict[str, set[Any]] = {}
    for name, part in every_key():
        if "default" in part:
            told.setdefault(name, set()).add(part["default"])
    health = process.Health(probe=process.Probe.RUNNING)
    web = process.Process(name="web", command=("x",), health=health)
    base = recipe.Recipe(base="scratch")
    env = environment.Environment(app="a", name="b", processes={})
    migrate = job.Job(name="migrate", command=("x",))
    assert {name: found.pop() if len(found) == 1 else found for name, found in told.items()} == {
        "workdir": base.workdir,
        "user": base.user,
        "dockerfile_network": base.network,
        "time": units.format_duration(base.limits.time),
        "disk": units.format_size(base.limits.disk),
        **{key: units.format_duration(getattr(health, key)) for key in ("interval", "start")},
        **{key: units.format_duration(getattr(web, key)) for key in ("drain", "stop")},
        "memory": {units.format_size(web.memory), units.format_size(base.limits.memory)},
        "pids": web.pids,
        "moves": web.moves.value,
        "kind": env.strategy.kind.value,
        "batch": units.format_percent(env.strategy.batch),
        **{key: units.format_duration(getattr(env.strategy, key)) for key in ("min_healthy", "progress", "patience")},
        "platform": {units.format_duration(env.strategy.platform), env.platform.kind.value},
        "surge": f"{env.strategy.surge}%",
        "floor": f"{env.strategy.floor}%",
        "soak": units.format_duration(env.strategy.gate.soak),
        "gate": "auto",
        "sticky": env.strategy.sticky,
        "compare": strategy.Analysis().compare,
        "requests": strategy.Analysis().requests,
        "when": migrate.when.value,
        "timeout": {units.format_duration(health.timeout), units.format_duration(migrate.timeout)},
        "bake": units.format_duration(env.bake),
        "verify_for": units.format_duration(env.verify_for),
        "approvals": env.approval.count,
        "drift": env.drift.answer.value,
        "drift_storm": units.format_percent(env.drift.storm),
        "tolerance": units.format_percent(scaling.Scaling(least=1, most=2).tolerance),
        "window": {units.format_duration(scaling.UP.window), units.format_duration(scaling.DOWN.window)},
    }


def test_importing_the_parser_does_not_import_jsonschema() -> None:
    import subprocess
    import sys

    code = "import sys, stelae.spec.document, stelae.spec.render; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_errors_on_the_page_are_what_the_parser_prints() -> None:
    block = re.search(r"## Errors.*?```\n(.*?)```", (DOCS / "spec.md").read_text(), re.DOTALL)
    assert block is not None
    changes = {"process.web.port": 80000, "process.web.helth": {}, "process.web.freeze": True}
    with pytest.raises(InvalidInput) as caught:
        parse(toml(document(changes)))
    assert "\n".join((str(caught.value), *caught.value.details)) + "\n" == block[1]
