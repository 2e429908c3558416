"""The load generator sees every kind of failure, and counts what it is told to count."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.domain.units import MILLISECOND
from stelae.testing.load import Answer, Collector, Failure, Load, LoadResult, Trouble
from tests.ports import free_port

from .misbehaving import Handler, answer, reset, serving

HOST = "guestbook.testing.localhost"


def run(port: int, seconds: float = 0.15, *, rate: float = 100, timeout: float = 1) -> LoadResult:
    with Load("127.0.0.1", port, host=HOST, rate=rate, timeout=timeout) as load:
        time.sleep(seconds)
    return load.stop()


def silent(connection: object) -> None:
    time.sleep(0.5)


@pytest.mark.parametrize(
    ("handler", "trouble", "detail"),
    [
        (reset, Trouble.RESET, "reset"),
        (answer(b""), Trouble.CUT, "closed without an answer"),
        (answer(b"HTTP/1.1 200 OK\r\nContent-"), Trouble.CUT, "middle of the head"),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), Trouble.CUT, "4 of 9 bytes"),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Trouble.CUT, "not a number"),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), Trouble.CUT, "negative"),
        (answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"), Trouble.CUT, "two chunks"),
        (answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd0\r\n\r\n"), Trouble.CUT, "its end"),
        (answer(b"SSH-2.0-none\r\n\r\n"), Trouble.CUT, "not HTTP"),
        (answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull"), Trouble.STATUS, "503 full"),
        (answer(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n"), Trouble.STATUS, "404"),
        (silent, Trouble.TIMEOUT, "0.2 s"),
    ],
)  # fmt: skip
def test_every_failure_is_recorded(handler: Handler, trouble: Trouble, detail: str) -> None:
    with serving(handler) as port:
        result = run(port, timeout=0.2)
    assert result.ok == 0
    assert not result.acknowledged
    assert len(result.failures) == result.sent > 3
    assert {failure.trouble for failure in result.failures} == {trouble}
    assert detail in result.failures[0].detail
    assert {failure.method for failure in result.failures} == {"GET", "POST"}
    assert {failure.id for failure in result.failures if failure.method == "POST"} == result.ids


def test_a_refused_connection_is_recorded() -> None:
    result = run(free_port())
    assert {failure.trouble for failure in result.failures} == {Trouble.REFUSED}


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "example.com", "localhost", "", "::"])
def test_only_the_loopback_is_a_target(address: str) -> None:
    with pytest.raises(InvalidInput, match="loopback"):
        Load(address, 80, host=HOST)


def test_kept_and_new_connections_are_both_used() -> None:
    seen: list[int] = []
    whole = b"HTTP/1.1 200 OK\r\nX-Version: 7\r\nX-Instance: web-1\r\nContent-Length: 2\r\n\r\nok"

    def keep(connection: socket.socket) -> None:
        connection.sendall(whole)
        requests = 1
        while connection.recv(65536):
            connection.sendall(whole)
            requests += 1
        seen.append(requests)

    with serving(keep) as port:
        result = run(port, 0.4, rate=50)
    assert not result.failures
    assert sum(seen) == result.sent
    assert max(seen) > 4
    assert seen.count(1) > 4
    assert list(result.versions) == ["7"]
    assert {item.instance for item in result.answers} == {"web-1"}


def test_the_rate_is_kept_while_answers_are_slow() -> None:
    def slow(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    with serving(slow) as port:
        begun = time.monotonic()
        result = run(port, 0.5, rate=60, timeout=5)
        elapsed = time.monotonic() - begun
    assert not result.failures
    assert 20 <= result.sent <= 60 * elapsed + 1
    assert result.percentile(50) >= 300 * MILLISECOND


def test_a_collector_counts_each_execution() -> None:
    with Collector() as collector:
        with Load("127.0.0.1", collector.port, host=HOST, rate=100) as load:
            time.sleep(0.3)
        result = load.stop()
        counts = collector.counts()
        doubled = next(iter(result.ids))
        post(collector.port, json.dumps({"id": doubled}).encode())
        again = collector.counts()
    # GET / is none of the collector's paths, and that is a failure like any other.
    assert {failure.trouble for failure in result.failures} == {Trouble.STATUS}
    assert {failure.method for failure in result.failures} == {"GET"}
    assert result.acknowledged == result.ids == counts.keys()
    assert not result.doubled(counts)
    assert not result.lost(counts)
    assert result.doubled(again) == {doubled}
    assert result.lost({identity: 1 for identity in counts if identity != doubled}) == {doubled}


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"{}", b'"id"', b'{"text": "x"}'])
def test_a_collector_counts_only_entries(body: bytes) -> None:
    with Collector() as collector:
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(collector.port, body)
        refused.value.close()
        assert refused.value.code == 400
        assert not collector.counts()


def test_a_taken_port_is_an_error() -> None:
    with Collector() as collector, pytest.raises(OSError, match="in use"):
        Collector(port=collector.port)


def test_a_collector_ends_while_a_connection_is_open() -> None:
    with Collector() as collector, socket.create_connection(("127.0.0.1", collector.port)) as connection:
        connection.sendall(b"POST /entries HTTP/1.1\r\n")
        time.sleep(0.05)
        begun = time.monotonic()
        collector.stop(5)
    assert time.monotonic() - begun < 1


def answers(*times: int, version: Callable[[int], str] = str) -> tuple[Answer, ...]:
    return tuple(
        Answer(at=index, took=took, method="GET", status=200, version=version(index), instance="i")
        for index, took in enumerate(times)
    )


def result_of(*times: int, version: Callable[[int], str] = str) -> LoadResult:
    return LoadResult(
        answers=answers(*times, version=version), failures=(), ids=frozenset(), acknowledged=frozenset()
    )


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0, 100))
def test_a_percentile_is_a_time_that_was_measured(times: list[int], share: float) -> None:
    found = result_of(*times).percentile(share)
    assert found in times
    assert sum(took <= found for took in times) >= share / 100 * len(times)


def test_no_answers_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="0 answers"):
        result_of().percentile(50)
    with pytest.raises(ValueError, match="0 answers"):
        result_of(1).percentile(50, "POST")


def test_versions_are_in_the_order_of_their_first_answer() -> None:
    seen = result_of(1, 1, 1, 1, version=lambda index: "2" if index in (1, 3) else "1").versions
    assert list(seen) == ["1", "2"]
    assert (seen["1"].first, seen["1"].last, seen["1"].count) == (0, 2, 2)
    assert (seen["2"].first, seen["2"].last, seen["2"].count) == (1, 3, 2)


def test_a_result_shows_its_failures() -> None:
    failure = Failure(at=5, took=1, method="POST", trouble=Trouble.CUT, detail="closed", id="a-1")
    shown = str(LoadResult(answers=answers(1), failures=(failure,), ids=frozenset(), acknowledged=frozenset()))
    assert shown == "1 of 2 requests answered, 1 failed\n  5 POST a-1 cut: closed"


def post(port: int, body: bytes) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/entries", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=5):
        pass
