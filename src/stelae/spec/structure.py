"""Check a raw document against the schema, and say what is wrong in plain words."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stelae.spec.problem import Path, Problem, nearest, shown
from stelae.spec.refused import later_keys, refused_key
from stelae.spec.schema import SCHEMA

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError


def check(document: Mapping[str, Any]) -> list[Problem]:
    """Return all in which *document* differs from the schema."""
    problems: list[Problem] = []
    for error in _validator().iter_errors(document):
        problems += _translate(_Finding.of(error))
    return problems


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # slow to import, and most commands never parse a spec

    return Draft202012Validator(SCHEMA)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What jsonschema says: ``rule`` (a keyword, and its value) of ``schema`` does not hold at ``path``."""

    path: Path
    rule: str
    wanted: Any
    schema: Mapping[str, Any]
    value: Any
    of_key: bool

    @classmethod
    def of(cls, error: ValidationError) -> _Finding:
        return cls(
            path=cast("Path", tuple(error.absolute_path)),
            rule=str(error.validator),
            wanted=error.validator_value,
            schema=cast("Mapping[str, Any]", error.schema),
            value=error.instance,
            of_key="propertyNames" in error.relative_schema_path,
        )


def _translate(finding: _Finding) -> list[Problem]:
    path = finding.path
    if finding.of_key:  # the path is that of the table whose key it is
        return [Problem(path=(*path, finding.value), text=f"expected {_expected(finding.schema)}")]
    if finding.rule == "additionalProperties":
        return _unknown_keys(finding)
    if finding.rule == "required":
        missing = [name for name in finding.wanted if name not in finding.value]
        return [Problem(path=(*path, name), text=f"missing; expected {needed((*path, name))}") for name in missing]
    return [_bad_value(finding)]


def _bad_value(finding: _Finding) -> Problem:
    text = f"expected {_expected(finding.schema)}, got {_described(finding.value)}"
    near = nearest(finding.value, finding.wanted) if finding.rule == "enum" and isinstance(finding.value, str) else ""
    return Problem(path=finding.path, text=text + (f'. Did you mean "{near}"?' if near else ""))


def _unknown_keys(finding: _Finding) -> list[Problem]:
    known = list(finding.schema["properties"])
    later = later_keys(finding.path)
    problems: list[Problem] = []
    for key in finding.value:
        if key not in known:
            here = (*finding.path, key)
            problems += refused_key(here) or [Problem(path=here, text=_unknown(key, known, later))]
    return problems


def _unknown(key: str, known: Sequence[str], later: Collection[str]) -> str:
    near = nearest(key, [*known, *sorted(later)])
    if not near:
        return f"unknown key; known here: {', '.join(known)}"
    return f'unknown key. Did you mean "{near}"?' + (" It is not supported yet" if near in later else "")


def _expected(schema: Mapping[str, Any]) -> str:
    """Return what *schema* asks for, in words."""
    return str(schema.get("title") or schema.get("type"))


def needed(path: Path) -> str:
    """Return what the missing key at *path* should hold, from the schema."""
    place: Any = SCHEMA
    for part in path:
        place = _resolved(place)
        below = place["items"] if isinstance(part, int) else place.get("properties", {}).get(part)
        place = below or place["additionalProperties"]
    return _expected(_resolved(place))


def _resolved(schema: Any) -> Any:
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.rsplit("/", 1)[-1]] if reference else schema


def _described(value: object) -> str:
    """Return what a person wrote, short and safe to print."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(shown(value)) if value else "an empty string"
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return f"the date or time {value.isoformat()}"
    return str(value)
