"""The API is what its own description says: for any request that can be made from it, and for any that cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import assume, given
from schemathesis import GenerationMode
from starlette.routing import Route
from tests.unit.api.described import (
    ACCEPTED,
    CONFORMS,
    DESCRIBED,
    DESCRIPTION,
    REFUSED,
    ask,
    fixed,
    session,
    validate,
    with_fraction,
)
from tests.unit.api.plain import UnixConnection

from stelae.controller import api, openapi
from stelae.controller.client import Client
from stelae.controller.contract import Service
from stelae.controller.operations import OPERATIONS
from stelae.system.installation import Installation
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

TAKE_NOTHING = {"GET /v1/ping", "GET /v1/openapi.json", "GET /v1/keys", "GET /v1/log-key", "GET /v1/witness-policy"}
EXCHANGE = "POST /v1/debug-sessions/terminal"
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.fixture(scope="session")
def through(long_served: tuple[FakeService, Installation]) -> Iterator[requests.Session]:
    with session(long_served[1].socket) as made:
        yield made


@pytest.mark.parametrize("label", sorted(DESCRIBED))
def test_what_the_description_allows_is_accepted(label: str, through: requests.Session, behind: FakeService) -> None:
    @fixed
    @given(case=DESCRIBED[label].as_strategy(generation_mode=POSITIVE))
    def check(case: schemathesis.Case) -> None:
        assume(not with_fraction(case.body))
        assert ask(case, through, ACCEPTED).status_code == 200

    check()


@pytest.mark.parametrize("label", sorted(label for label in DESCRIBED if label not in TAKE_NOTHING))
def test_what_the_description_forbids_is_refused(label: str, through: requests.Session, behind: FakeService) -> None:
    @fixed
    @given(case=DESCRIBED[label].as_strategy(generation_mode=NEGATIVE))
    def check(case: schemathesis.Case) -> None:
        before = len(behind.calls)
        # an exchange reads its body when it answers already: its last line refuses
        answered = ask(case, through, CONFORMS if label == EXCHANGE else REFUSED)
        if answered.status_code != 200:
            assert len(behind.calls) == before

    check()


def raw(client: Client, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[Any, Any]:
    connection = UnixConnection(client.path)
    try:
        connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        data = response.read()
        return response, json.loads(data) if data else None
    finally:
        connection.close()


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD")


@pytest.mark.parametrize("path", sorted(DESCRIPTION["paths"]))
def test_a_method_that_is_not_described_is_refused(client: Client, behind: FakeService, path: str) -> None:
    described = {method.upper() for method in DESCRIPTION["paths"][path]}
    for method in METHODS:
        if method in described:
            continue
        response, answer = raw(client, method, path.replace("{id}", "d-1"))
        assert response.status == 405
        assert set(response.headers["allow"].split(", ")) == described
        if method != "HEAD":
            validate({"$ref": "#/components/schemas/Error"}, answer)
            assert answer["error"]["message"] == f"{path.replace('{id}', 'd-1')} does not take {method}"
    assert behind.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/ping/", "/V1/ping", "/v2/ping", "/v1//ping", "/v1/ping%2f", "/v1/./ping",
        "/v1/deployments/", "/v1/deployments/d-1/", "/v1/deployments/d-1/x", "/openapi.json", "/docs", "/v1/%00",
    ],
)  # fmt: skip
def test_a_path_that_is_not_described_is_refused(client: Client, behind: FakeService, path: str) -> None:
    response, answer = raw(client, "GET", path)
    assert response.status == 404 or (response.status, path) == (405, "/v1/deployments/")
    validate({"$ref": "#/components/schemas/Error"}, answer)
    assert behind.calls == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "x", "/"])
def test_another_media_type_is_refused(client: Client, behind: FakeService, kind: str) -> None:
    for target in ("/v1/gc", "/v1/builds", "/v1/sources?repository=r"):
        response, answer = raw(client, "POST", target, b"{}", content_type=kind)
        assert (response.status, answer["error"]["kind"]) == (400, "invalid")
        assert kind in answer["error"]["message"]
    assert behind.calls == []
    for good in ("application/json", "Application/JSON; charset=utf-8"):
        assert raw(client, "POST", "/v1/gc", b"{}", content_type=good)[0].status == 200


def test_every_route_is_described_and_every_description_is_a_route(tmp_path: Path) -> None:
    routes = {
        (route.path, method)
        for route in api.application(FakeService(), tmp_path).routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    described = {
        (path, method.upper()) for path, methods in DESCRIPTION["paths"].items() for method in methods
    }  # fmt: skip
    assert routes == described
    assert len({item.name for item in openapi.ALL}) == len(openapi.ALL) == len(routes)


def test_every_use_case_has_an_operation() -> None:
    use_cases = {name for name in vars(Service) if not name.startswith("_")}
    assert {item.name for item in OPERATIONS} == use_cases
    for item in openapi.ALL:
        assert sum(way is not None for way in (item.call, item.stream, item.upload, item.exchange)) == 1
        assert (item.progress is None) == (item.stream is None and item.exchange is None)


def test_the_description_is_served_and_is_the_one_in_the_documentation(client: Client) -> None:
    served = client.get("/v1/openapi.json")
    assert served == DESCRIPTION
    file = Path(__file__).parents[3] / "docs" / "openapi.json"
    assert file.read_text("utf-8") == openapi.text(), "write it again: stelae controller openapi > docs/openapi.json"


def test_the_description_is_portable() -> None:
    """Its patterns are of ECMA-262, and each $ref leads somewhere."""
    text = json.dumps(DESCRIPTION)
    assert r"\\A" not in text
    assert r"\\Z" not in text
    for reference in {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.removeprefix("#/components/schemas/") in DESCRIPTION["components"]["schemas"]


def closed(schema: Any) -> Any:
    """*schema* with no field beyond those that it names, so that what it lacks is found."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    return {**made, "additionalProperties": False} if "properties" in schema else made


@pytest.mark.parametrize("item", OPERATIONS, ids=lambda item: item.name)
def test_the_shapes_name_every_field_of_the_fixed_answers(item: Any) -> None:
    if item.name == "show":
        pytest.skip("what it answers depends on the kind of thing")
    responses = DESCRIPTION["paths"][item.path][item.method.lower()]["responses"]
    [content] = responses["200"]["content"].values()
    answers = ANSWERS[item.name]
    for answer in answers if item.progress is not None else [answers]:
        validate(closed(content["schema"]), answer, closed(DESCRIPTION["components"]))
