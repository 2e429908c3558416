"""The API's description of itself: OpenAPI 3.1, made of the table of operations and of the messages' own rules.

The specification is https://spec.openapis.org/oas/v3.1.1.html; its schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from stelae.controller import messages
from stelae.controller.contract import Json, Service
from stelae.controller.operation import CONFLICT, REFUSED, Operation
from stelae.controller.operations import OPERATIONS
from stelae.controller.shapes import common, machine

VERSION = "1"
"""The version of the API: the ``v1`` of its paths."""

JSON_TYPE, LINES_TYPE, BYTES_TYPE = "application/json", "application/x-ndjson", "application/octet-stream"

_SCHEMAS = "#/components/schemas/{name}"
_ABOUT = """\
The API of a Stelae controller, on its Unix socket. The socket's file says who may connect, and the kernel says which
user asks; nothing in a request does.

Everything is JSON, UTF-8, without a name twice in an object or a query; whole numbers are written without a point.
Times are microseconds since 1970 (UTC), sizes bytes, traffic basis points. What takes long
answers with a stream, one JSON object a line: `progress` any number of times, and last `result` or `error`; a stream
without such an end broke off. An answer may get more fields in a later version.

What is no path of this API is answered with 404, a method that a path does not take with 405; both as `Error`."""

_STATUS = {
    400: "The request cannot be used, or names something that is not there; nothing was done.",
    REFUSED: "A policy says no; the refusal is recorded.",
    CONFLICT: "Something else holds what was asked for, or what the client saw is no longer so.",
    422: "It was tried, and failed.",
    500: "The controller had an unexpected error; its log says more.",
    503: "The controller stops, or a part of the machine does not answer. Try again later.",
}
_ALWAYS = (400, 422, 500, 503)


def text() -> str:
    """Return the description as the file in the documentation has it."""
    return json.dumps(description(), indent=2, ensure_ascii=False) + "\n"


@cache
def description() -> Json:
    """Return the description of the whole API."""
    return describe(ALL)


def describe(operations: Sequence[Operation]) -> Json:
    """Return the description of *operations*."""
    parts = [(item.takes, item.answers, item.progress, item.typed) for item in operations]
    kinds = [kind for found in parts for kind in found if kind is not None]
    found, components = msgspec.json.schema_components([*kinds, common.Error], ref_template=_SCHEMAS)
    schemas: dict[int, Json] = {id(kind): schema for kind, schema in zip([*kinds, common.Error], found, strict=True)}
    paths: dict[str, Json] = {}
    for item in operations:
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, schemas, components)
    bodies = {item.takes.__name__ for item in operations if item.place == "body"}
    bodies |= {item.typed.__name__ for item in operations if item.typed is not None}
    inlined = {item.takes.__name__ for item in operations} - bodies
    return {
        "openapi": "3.1.1",
        "info": {"title": "Stelae", "version": VERSION, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "http://localhost", "description": "the controller's Unix socket"}],
        "paths": paths,
        "components": {
            "schemas": {name: _portable(schema) for name, schema in components.items() if name not in inlined}
        },
    }


def _operation(item: Operation, schemas: Mapping[int, Json], components: Mapping[str, Json]) -> Json:
    """Return the Operation Object of *item*."""
    made: Json = {"operationId": item.name, "summary": item.summary}
    takes = components[item.takes.__name__]
    if item.place != "body":
        made["parameters"] = _parameters(item, takes)
    if item.upload is not None:
        made["requestBody"] = {"required": True, "content": {BYTES_TYPE: {}}}
    elif item.typed is not None:
        schema = {"description": "One line of the body.", "allOf": [schemas[id(item.typed)]]}
        made["requestBody"] = {"required": True, "content": {LINES_TYPE: {"schema": schema}}}
    elif item.place == "body":
        content = {JSON_TYPE: {"schema": schemas[id(item.takes)]}}
        made["requestBody"] = {"required": bool(takes["required"]), "content": content}
    made["responses"] = {"200": {"description": "It was done.", "content": _content(item, schemas)}}
    error = {JSON_TYPE: {"schema": schemas[id(common.Error)]}}
    for status in sorted((*_ALWAYS, *item.also)):
        made["responses"][str(status)] = {"description": _STATUS[status], "content": error}
    return made


def _parameters(item: Operation, takes: Json) -> list[Json]:
    return [
        {"name": name, "in": item.place, "required": name in takes["required"], "schema": _portable(schema)}
        for name, schema in takes["properties"].items()
    ]


def _content(item: Operation, schemas: Mapping[int, Json]) -> Json:
    """What a 200 holds. The schema of a stream is that of one line of it."""
    answers = schemas[id(item.answers)]
    if item.progress is None:
        return {JSON_TYPE: {"schema": answers}}
    lines = [
        _object("progress", schemas[id(item.progress)]), _object("result", answers), schemas[id(common.Error)],
    ]  # fmt: skip
    return {LINES_TYPE: {"schema": {"description": "One line; the last is a result or an error.", "oneOf": lines}}}


def _object(name: str, schema: Json) -> Json:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def _portable(schema: Any) -> Any:
    """Return *schema* with Python's anchors as JSON Schema has them (ECMA-262: no multi-line mode, so the same)."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\A", "^").replace(r"\Z", "$") if key == "pattern" else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(item) for item in schema] if isinstance(schema, list | tuple) else schema


async def _answer(service: Service, actor: str, asked: messages.Nothing) -> Json:
    return description()


OPERATION = Operation(
    name="openapi", method="GET", path="/v1/openapi.json", summary="Give this description.",
    takes=messages.Nothing, answers=machine.Description, call=_answer,
)  # fmt: skip

ALL = (*OPERATIONS, OPERATION)
"""Every operation of the API."""
