"""Requests that are made from the API's own description (schemathesis), sent to a real socket and judged by it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, settings
from requests.adapters import HTTPAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.unit.api.plain import UnixConnection

from stelae.controller import openapi

EXAMPLES = int(os.environ.get("STELAE_API_EXAMPLES", "10"))
"""Requests of each kind for each operation; more make a longer run."""

DESCRIPTION = openapi.description()
LOADED = schemathesis.openapi.from_dict(DESCRIPTION)
DESCRIBED = {found.ok().label: found.ok() for found in LOADED.get_all_operations()}

CONFORMS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ACCEPTED = [*CONFORMS, positive_data_acceptance]
REFUSED = [*CONFORMS, negative_data_rejection]

fixed = settings(
    max_examples=EXAMPLES, derandomize="STELAE_API_EXAMPLES" not in os.environ, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@schemathesis.serializer(openapi.LINES_TYPE)
def one_line(_: Any, value: Any) -> bytes:
    """The body of an exchange: one line of it."""
    return json.dumps(value).encode() + b"\n"


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def _new_conn(self) -> Any:
        found = urllib3.connection.HTTPConnection("localhost")
        found.connect = lambda: _connect(found, self.path)  # type: ignore[method-assign]  # over a Unix socket, which urllib3 has none of
        return found


def _connect(connection: Any, path: Path) -> None:
    plain = UnixConnection(path)
    plain.connect()
    connection.sock = plain.sock


class _Adapter(HTTPAdapter):
    """Sends to a Unix socket, whatever the URL's host is."""

    def __init__(self, path: Path) -> None:
        self.pool = _Pool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self.pool

    def close(self) -> None:
        self.pool.close()
        super().close()


def session(path: Path) -> requests.Session:
    """Return a session of requests that talks to the controller at *path*."""
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", _Adapter(path))
    return made


def ask(case: schemathesis.Case, through: requests.Session, checks: list[Any]) -> schemathesis.Response:
    """Send *case*; hold the answer to *checks*, and each line of a stream to the description."""
    response = case.call(base_url="http://localhost", session=through)
    case.validate_response(response, checks=checks)
    if response.headers["content-type"][0] == openapi.LINES_TYPE:
        _held_to(case, response.content)
    elif response.status_code != 200:
        validate({"$ref": "#/components/schemas/Error"}, json.loads(response.content))
    return response


def _held_to(case: schemathesis.Case, content: bytes) -> None:
    operation = DESCRIPTION["paths"][case.operation.path][case.operation.method.lower()]
    schema = operation["responses"]["200"]["content"][openapi.LINES_TYPE]["schema"]
    lines = [json.loads(line) for line in content.splitlines()]
    for line in lines:
        validate(schema, line)
    assert {"result", "error"} & lines[-1].keys(), "the last line is the end"
    assert not any({"result", "error"} & line.keys() for line in lines[:-1])
    if "error" in lines[-1]:
        assert lines[-1]["error"]["kind"] != "internal", lines[-1]


def validate(schema: Any, value: Any, components: Any = DESCRIPTION["components"]) -> None:
    """Raise when *value* is not of *schema*, which may refer to *components*."""
    jsonschema.Draft202012Validator({**schema, "components": components}).validate(value)


def with_fraction(value: Any) -> bool:
    """True when there is a number with a point in *value*: 4.0 is an integer to JSON Schema, but not to this API."""
    if isinstance(value, dict):
        return any(with_fraction(item) for item in value.values())
    return isinstance(value, float)
