"""Whatever is sent, the API answers with a typed error: never a 500, never silence, and nothing is called."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.api.plain import UnixConnection

from stelae.controller.client import Client
from stelae.testing.answer_parts import COMMIT, IMAGE
from stelae.testing.service import FakeService

ENV = "guestbook/production"
POSTS: dict[str, dict[str, Any]] = {
    "/v1/sources/missing": {"repository": "r1", "objects": [COMMIT]},
    "/v1/builds": {"repository": "r1", "commit": COMMIT},
    "/v1/locks": {"repository": "r1", "commit": COMMIT, "path": ""},
    "/v1/environments/apply": {"spec": "", "dry_run": True},
    "/v1/deployments": {"environment": ENV, "image": IMAGE, "strategy": "rolling"},
    "/v1/plans": {"environment": ENV, "image": IMAGE},
    "/v1/rollbacks": {"environment": ENV, "to": "r-7k"},
    "/v1/aborts": {"environment": ENV, "reason": "x"},
    "/v1/promotions": {"from": "shop/staging", "to": ENV, "emergency": "x"},
    "/v1/approvals": {"environment": ENV, "deployment": "d-1"},
    "/v1/rejections": {"environment": ENV, "reason": "x"},
    "/v1/verifiers": {"pem": "x", "verifies": ENV},
    "/v1/pauses": {"environment": ENV, "reason": "x"},
    "/v1/resumptions": {"environment": ENV, "reason": "x"},
    "/v1/hurries": {"environment": ENV, "reason": "x"},
    "/v1/scales": {"environment": ENV, "processes": {"web": 3}},
    "/v1/inspections": {"environment": ENV},
    "/v1/replacements": {"environment": ENV, "instances": ["web-x-1"], "drifted": False, "reason": "x"},
    "/v1/down": {"app": "guestbook"},
    "/v1/start": {"app": ""},
    "/v1/gc": {"dry_run": False},
    "/v1/verify-ledger": {},
}
GETS = [
    "/v1/ping", "/v1/environments", "/v1/deployments/d-1", "/v1/deployments/d-1/watch", "/v1/status", "/v1/history",
    "/v1/show", "/v1/state", "/v1/logs", "/v1/receipts", "/v1/log-key",
]  # fmt: skip


def ask(client: Client, method: str, target: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = UnixConnection(client.path)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read().splitlines()[-1])
    finally:
        connection.close()


def assert_refused(status: int, answer: Any) -> None:
    assert 400 <= status < 500
    assert set(answer["error"]) == {"kind", "message", "where", "hint", "details", "exit"}
    assert (answer["error"]["kind"], answer["error"]["exit"]) == ("invalid", 2)
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("route", "body", "says"),
    [
        ("/v1/deployments", b"", "missing required field"),
        ("/v1/deployments", b"{", "truncated"),
        ("/v1/deployments", b"[]", "expected"),
        ("/v1/deployments", b"\xff\xfe", "malformed"),
        ("/v1/deployments", b'{"environment": "\xff"}', "utf-8"),
        ("/v1/deployments", {"environment": "production"}, "environment"),
        ("/v1/deployments", {"environment": "../../etc"}, "environment"),
        ("/v1/deployments", {"environment": ENV, "image": "latest"}, "image"),
        ("/v1/deployments", {"environment": ENV, "plan": -1}, "plan"),
        ("/v1/deployments", {"environment": ENV, "plan": 1.0}, "plan"),
        ("/v1/deployments", {"environment": ENV, "plan": 2**53}, "plan"),
        ("/v1/deployments", b'{"environment": "a/b", "environment": "a/c"}', "twice"),
        ("/v1/scales", b'{"environment": "a/b", "processes": {"web": 1, "web": 2}}', "web: the name comes twice"),
        ("/v1/deployments", b'{"environment": "a/b", "plan": ' + b"9" * 100_000 + b"}", "plan|number"),
        ("/v1/plans", {"environment": ENV, "commit": "HEAD"}, "commit"),
        ("/v1/deployments", {"environment": ENV, "strateggy": "x"}, "strateggy"),
        ("/v1/deployments", {"environment": ENV, "supersede": "yes"}, "supersede"),
        ("/v1/deployments", {"environment": ENV, "reason": "x" * 1001}, "reason"),
        ("/v1/deployments", {"environment": ENV, "reason": "\0"}, "reason"),
        ("/v1/deployments", b'{"environment": "a/b", "reason": ' + b"[" * 100_000, "nested|expected"),
        ("/v1/deployments", b'{"a": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "unknown field|deep"),
        ("/v1/runs", {"environment": ENV, "command": ["a\0b"]}, "command"),
        ("/v1/runs", {"environment": ENV, "command": ["x"] * 501}, "command"),
        ("/v1/runs", {"environment": ENV, "command": "ls"}, "command"),
        ("/v1/runs", {"environment": ENV, "job": "Migrate"}, "job"),
        ("/v1/runs", {"environment": ENV, "job": "x", "timeout": -1}, "timeout"),
        ("/v1/run-cancellations", {"environment": ENV, "run": "../x"}, "run"),
        ("/v1/scales", {"environment": ENV, "processes": {}}, "processes"),
        ("/v1/scales", {"environment": ENV, "processes": {"web": -1}}, "processes"),
        ("/v1/scales", {"environment": ENV, "processes": {"web": 1.5}}, "processes"),
        ("/v1/scales", {"environment": ENV, "processes": {"web": 10**30}}, "processes"),
        ("/v1/scales", {"environment": ENV, "processes": {"../x": 1}}, "processes"),
        ("/v1/builds", {"repository": "../x", "commit": COMMIT}, "repository"),
        ("/v1/builds", {"repository": "r", "commit": "HEAD"}, "commit"),
        ("/v1/builds", {"repository": "r", "commit": COMMIT + "\n"}, "commit"),
        ("/v1/builds", {"repository": "r", "commit": "--upload-pack=x"}, "commit"),
        ("/v1/sources/missing", {"repository": "r", "objects": [COMMIT] * 10_001}, "objects"),
        ("/v1/environments/apply", {"spec": "x" * (1 << 20)}, "larger than"),
        ("/v1/gc", {"dry_run": None}, "dry_run"),
        ("/v1/gc?dry_run=1", {}, "dry_run"),
        ("/v1/nothing", {}, "not a route"),
        ("/v1/ping", {}, "does not take POST"),
        ("/v1/sources", b"x", "repository"),
        ("/v1/sources?repository=a&repository=b", b"x", "twice"),
        ("/v1/sources?repository=../a", b"x", "repository"),
    ],
)
def test_bad_bodies(client: Client, behind: FakeService, route: str, body: Any, says: str) -> None:
    status, answer = ask(client, "POST", route, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert_refused(status, answer)
    assert re.search(says, answer["error"]["message"]), answer["error"]["message"]
    assert behind.calls == []


@pytest.mark.parametrize(
    "target",
    [
        "/", "/v1", "/v2/ping", "/v1/ping?x=1", "/v1/status?environment=x", "/v1/status?environment=a/b/c",
        "/v1/history?limit=0", "/v1/history?limit=x", "/v1/history?limit=99999999999999999999", "/v1/show",
        "/v1/show?ref=", "/v1/show?ref=%00", "/v1/show?ref=" + "x" * 201, "/v1/state", "/v1/state?at=-1",
        "/v1/state?at=1e300", "/v1/state?at=nan", "/v1/logs", "/v1/logs?environment=a/b&follow=maybe",
        "/v1/logs?environment=a/b&instance=../../x", "/v1/deployments/1", "/v1/deployments/d-1%0a",
        "/v1/deployments/..%2f..%2fx/watch", "/v1/deployments/d-" + "9" * 30, "/v1/status?environment=%ff",
        "/v1/show?ref=%ff", "/v1/ping/", "/v1/history?everything=1", "/v1/history?limit=%2B7", "/v1/history?limit=07",
        "/v1/history?limit=7_0", "/v1/history?limit=7.0", "/v1/show?ref=a&" + "x&" * 200,
    ],
)  # fmt: skip
def test_bad_queries(client: Client, behind: FakeService, target: str) -> None:
    assert_refused(*ask(client, "GET", target))
    assert behind.calls == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
        b"POST /v1/gc HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"GET /" + b"x" * 70_000,
        b"POST /v1/gc HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/ping HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http(client: Client, behind: FakeService, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(client.path))
        raw.sendall(data)
        response = http.client.HTTPResponse(raw)
        response.begin()
        assert_refused(response.status, json.loads(response.read()))
    assert behind.calls == []
    assert client.get("/v1/ping")["pid"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A route and a good body of it, with one field replaced, added or removed; or any JSON; or any bytes."""
    route = draw(st.sampled_from(sorted(POSTS)))
    way = draw(st.integers(0, 4))
    if way == 0:
        return route, draw(st.binary(max_size=200))
    if way == 1:
        return route, json.dumps(draw(json_values)).encode()
    body = dict(POSTS[route])
    name = draw(st.sampled_from(sorted(body)) | st.text(max_size=8)) if body else draw(st.text(max_size=8))
    if way == 2:
        body.pop(name, None)
    else:
        body[name] = draw(json_values)
    data = json.dumps(body).encode()
    return route, data[: draw(st.integers(0, len(data)))] if way == 4 else data


@relaxed
@given(sent=mutated())
def test_no_body_gives_a_500(client: Client, sent: tuple[str, bytes]) -> None:
    status, answer = ask(client, "POST", *sent)
    if status != 200:
        assert_refused(status, answer)


@relaxed
@given(
    route=st.sampled_from([*GETS, "/v1/x"]),
    query=st.dictionaries(
        st.sampled_from(["environment", "ref", "at", "limit", "follow", "app", "x"]),
        st.text(st.characters(codec="utf-8"), max_size=20),
        max_size=3,
    ),
)
def test_no_query_gives_a_500(client: Client, route: str, query: dict[str, str]) -> None:
    status, answer = ask(client, "GET", f"{route}?{urlencode(query)}")
    if status != 200:
        assert_refused(status, answer)
