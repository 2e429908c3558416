"""Asking checks: real HTTP to servers that mean well and others; and what of it is recorded, also across an end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from stelae.controller import check_sentences, checks
from stelae.controller.ask import LARGEST
from stelae.controller.checks import Answer, Checker
from stelae.controller.sentences import matters, sentence
from stelae.core.checks import BASELINE, Due
from stelae.domain import event as ev
from stelae.domain.check import CheckVerdict
from stelae.domain.state import DeploymentKind, Outcome
from stelae.domain.strategy import Check, CheckKind, Gate, Step, Strategy, StrategyKind
from stelae.domain.units import MILLISECOND, SECOND
from tests.unit.controller.site import TEST, Site, on_site

PASS, FAIL, WAIT, SILENT = CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.WAIT, CheckVerdict.SILENT

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


@contextmanager
def server(reply: Reply) -> Iterator[str]:
    """Answer every POST by *reply*; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            try:
                reply(self, body)
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.server_port}"
        finally:
            found.shutdown()
            thread.join()


def sends(body: bytes, status: int = 200, **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def drips(head: bytes) -> Reply:
    """Send *head*, and then a byte now and then, for longer than anybody waits."""

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.wfile.write(head)
        for _ in range(100):  # two seconds
            handler.wfile.write(b"x")
            time.sleep(0.02)

    return reply


def asked(reply: Reply, kind: CheckKind = CheckKind.WEBHOOK, **more: Any) -> Answer:
    with server(reply) as url:
        check = Check(name="c", kind=kind, url=url, most="5", timeout=300 * MILLISECOND)
        due = Due(check=replace(check, **more), deployment="d-1", step=0, at=0, query="up", facts={"step": 0})
        return checks.answer(due)


def vector(*values: Any) -> bytes:
    result = [{"metric": {}, "value": [1, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def data(kind: str, result: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (vector("4.5"), (PASS, "4.5", "4.5")),
        (vector("6"), (FAIL, "6", "6 is above 5")),
        (data("scalar", [1, "4"]), (PASS, "4", "4")),
        (vector("NaN"), (SILENT, "NaN", "'NaN' is no number")),
        (vector(), (SILENT, "", "the query gave no series, not one number")),
        (vector("1", "2"), (SILENT, "", "the query gave 2 series, not one number")),
        (data("matrix", []), (SILENT, "", "the query gave a matrix, not one number")),
        (data("scalar", [1, 4]), (SILENT, "", "the query gave something that is not one number")),
        (data("vector", [7]), (SILENT, "", "the query gave something that is not one number")),
        (b'{"status": "success"}', (SILENT, "", "the query gave nothing known, not one number")),
        (b"[]", (SILENT, "", "it answered 200 with something that is no JSON object")),
        (b"[" * 100_000, (SILENT, "", "it answered 200 with something that is no JSON object")),
    ],
)
def test_what_prometheus_answers(body: bytes, said: Answer) -> None:
    assert asked(sends(body), CheckKind.PROMETHEUS) == said


def test_an_error_of_prometheus_is_told_in_its_words() -> None:
    body = b'{"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end"}'
    assert asked(sends(body, 400), CheckKind.PROMETHEUS)[2] == (
        "Prometheus answered 400: parse error: unexpected end"
    )  # fmt: skip


def test_the_query_goes_to_the_api_of_prometheus() -> None:
    seen: list[Any] = []

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.path, parse_qs(body.decode())))
        sends(vector("1"))(handler, body)

    assert asked(reply, CheckKind.PROMETHEUS)[0] is PASS
    assert seen == [("/api/v1/query", {"query": ["up"], "timeout": ["0.3s"]})]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"verdict": "pass"}', (PASS, "", "")),
        (b'{"verdict": "fail", "reason": "12 orders lost"}', (FAIL, "", "12 orders lost")),
        (b'{"verdict": "wait", "reason": 7}', (WAIT, "", "")),
        (b'{"verdict": "maybe"}', (SILENT, "", 'its verdict is \'maybe\', not "pass", "fail" or "wait"')),
        (b'{"verdict": ["pass"]}', (SILENT, "", 'its verdict is [\'pass\'], not "pass", "fail" or "wait"')),
        (b"fine", (SILENT, "", "it answered 200 with something that is no JSON object")),
        (b"\xff\xfe", (SILENT, "", "it answered 200 with something that is no JSON object")),
    ],
)
def test_what_a_webhook_answers(body: bytes, said: Answer) -> None:
    assert asked(sends(body)) == said


def test_a_webhook_is_told_the_facts() -> None:
    seen: list[Any] = []

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.path, handler.headers["content-type"], json.loads(body)))
        sends(b'{"verdict": "pass"}')(handler, body)

    assert asked(reply)[0] is PASS
    assert seen == [("/", "application/json", {"step": 0})]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (sends(b'{"verdict": "pass"}', 500), "it answered 500"),
        (sends(b'{"verdict": "pass"}', 302, Location="http://169.254.169.254/"), "it answered 302: a redirect is"),
        (sends(b"{" + b" " * LARGEST + b"}"), "an answer of more than 256 KiB"),
        (drips(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"), "no answer within 0.3 s"),
        (drips(b"HTTP/1.1 200 OK\r\nx-slow: "), "no answer within 0.3 s"),
        (lambda *_: time.sleep(0.6), "no answer within 0.3 s"),
        (drips(b"HTTP/1.1 2oo\r\n"), "HTTP/1.1 2oo"),
    ],
)
def test_what_is_no_answer(reply: Reply, why: str) -> None:
    began = time.monotonic()
    verdict, value, reason = asked(reply)
    assert (verdict, value) == (SILENT, "")
    assert reason.startswith(why)
    assert time.monotonic() - began < 5


def test_nobody_there() -> None:
    with server(sends(b"")) as url:
        pass
    check = Check(name="c", kind=CheckKind.WEBHOOK, url=url)
    verdict, _, reason = checks.answer(Due(check=check, deployment="d", step=0, at=0, query="", facts={}))
    assert verdict is SILENT
    assert "refused" in reason


class Oracle:
    """Answers instead of a server: what is in ``says``, the last of them for ever."""

    def __init__(self, *says: Answer) -> None:
        self.says = list(says)
        self.queries: list[str] = []

    async def __call__(self, due: Due) -> Answer:
        self.queries.append(due.query)
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]


async def canary(site: Site, check: Check) -> str:
    """Have a canary begin that waits for *check* in its first step; return the deployment's name."""
    await site.apply()
    await site.stable(await site.image("v1"))
    done = await site.deploy(await site.image("v2"))
    rollout = site.env().rollout
    assert rollout is not None
    steps = (Step(weight=2_000, gate=Gate(checks=(check.name,))),)
    strategy = Strategy(kind=StrategyKind.CANARY, checks=(check,), steps=steps)
    event = ev.DeploymentRequested(
        deployment=done["deployment"], deployment_kind=DeploymentKind.DEPLOY, strategy=strategy,
        release=site.env().releases[rollout.candidate],
    )  # fmt: skip
    await site.record.append([event], actor="ana", environment=TEST)
    return str(done["deployment"])


QUERY = Check(
    name="slow", kind=CheckKind.PROMETHEUS, url="http://127.0.0.1:1", query="{{release}}", interval=MILLISECOND
)  # fmt: skip


def test_answers_are_recorded_first_about_the_old_release(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        name = await canary(site, QUERY)
        woken: list[str] = []
        oracle = Oracle((FAIL, "9", "9 is above 5"), (PASS, "1", "1"), (FAIL, "9", "9\x1b[2J is above 5"))
        asking = asyncio.create_task(Checker(site.record, site.clock, woken.append, oracle).keep_asking())
        await site.until(lambda: bool(site.events(ev.CheckMeasured)))
        await asyncio.sleep(0.05)
        assert len(oracle.queries) == 1  # nothing more before the step is held
        await site.record.append([ev.StepHeld(deployment=name, step=0)], environment=TEST)
        await site.until(lambda: len(site.events(ev.CheckMeasured)) > 3)
        asking.cancel()
        first, second, third, *_ = site.events(ev.CheckMeasured)
        assert (first.step, first.verdict, first.value, first.reason) == (BASELINE, FAIL, "9", "9 is above 5")
        assert (second.step, second.verdict) == (0, PASS)
        assert third.reason == "9 [2J is above 5"
        rollout = site.env().rollout
        assert rollout is not None
        assert oracle.queries[:2] == [rollout.stable, rollout.candidate]
        assert set(woken) == {TEST}
        known = rollout.checks["slow"]
        assert (known.was_bad, known.failures > 1) == (True, True)

    on_site(tmp_path, body)


def test_a_controller_that_begins_anew_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        name = await canary(site, replace(QUERY, interval=3600 * SECOND))
        oracle = Oracle((PASS, "1", "1"))
        for life in range(3):
            asking = asyncio.create_task(Checker(site.record, site.clock, lambda _: None, oracle).keep_asking())
            if life == 1:
                await site.record.append([ev.StepHeld(deployment=name, step=0)], environment=TEST)
            await site.until(lambda life=life: len(oracle.queries) > min(life, 1))  # type: ignore[misc]  # no type is inferred of such a lambda
            await asyncio.sleep(0.05)
            asking.cancel()
        assert [event.step for event in site.events(ev.CheckMeasured)] == [BASELINE, 0]

    on_site(tmp_path, body)


def test_an_answer_that_comes_too_late_is_forgotten(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        name = await canary(site, QUERY)
        go = asyncio.Event()

        async def slowly(due: Due) -> Answer:
            await go.wait()
            return FAIL, "", ""

        asking = asyncio.create_task(Checker(site.record, site.clock, lambda _: None, slowly).keep_asking())
        await asyncio.sleep(0.05)
        await site.end(name, Outcome.CANCELLED)
        go.set()
        await asyncio.sleep(0.1)
        asking.cancel()
        assert not site.events(ev.CheckMeasured)

    on_site(tmp_path, body)


def test_an_answer_that_never_comes_is_none(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await canary(site, replace(QUERY, timeout=20 * MILLISECOND))

        async def never(due: Due) -> Answer:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        asking = asyncio.create_task(Checker(site.record, site.clock, lambda _: None, never).keep_asking())
        await site.until(lambda: bool(site.events(ev.CheckMeasured)))
        asking.cancel()
        assert site.events(ev.CheckMeasured)[0].reason == "no answer within 0.02 s"

    on_site(tmp_path, body)


def test_a_server_is_asked_beside_the_loop(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        with server(sends(vector("7"))) as url:
            await canary(site, replace(QUERY, url=url, most="5"))
            asking = asyncio.create_task(Checker(site.record, site.clock, lambda _: None).keep_asking())
            await site.until(lambda: bool(site.events(ev.CheckMeasured)))
            asking.cancel()
            (measured,) = site.events(ev.CheckMeasured)
            assert (measured.verdict, measured.value, measured.reason) == (FAIL, "7", "7 is above 5")

    on_site(tmp_path, body)


def test_what_a_history_says() -> None:
    event = ev.CheckMeasured(deployment="d-7", step=0, check="slow", verdict=FAIL, reason="9 is above 5")
    assert sentence(event) == "d-7: check slow fails in step 1: 9 is above 5"
    assert matters(event)
    usual = replace(event, step=BASELINE, verdict=PASS, reason="")
    assert check_sentences.of_checks(usual) == "d-7: check slow passes for the old release"
    assert not matters(usual)
