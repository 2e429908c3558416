"""The witness over HTTP: status and content type as they are specified, and clients that mean it no good."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from stelae.domain.errors import Failed, InvalidInput
from stelae.witness import server
from stelae.witness.witness import Witness
from tests.unit.witness.conftest import Log

LOG = Log(50)


@contextmanager
def served(witness: Witness) -> Iterator[tuple[str, int]]:
    """The witness on a port of its own, in a thread."""
    listener = server.bound("127.0.0.1:0")
    started, failed = threading.Event(), []
    stop: list[Callable[[], None]] = []

    async def run() -> None:
        task = asyncio.ensure_future(server.serve(witness, listener, started.set))
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await task
        except asyncio.CancelledError:
            pass
        except Failed as error:
            failed.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait(5)
    try:
        yield listener.getsockname()
    finally:
        with suppress(RuntimeError):  # it has ended by itself
            stop[0]()
        thread.join(10)
        listener.close()


@pytest.fixture
def place(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda *_: None)
    monkeypatch.setattr(server, "PATIENCE", 0.4)
    monkeypatch.setattr(server, "IDLE", 1)
    with served(witness) as address:
        yield address


def asked(place: tuple[str, int], method: str, path: str, body: bytes = b"") -> tuple[int, str, bytes]:
    with closing(http.client.HTTPConnection(*place, timeout=10)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], answer.read()


def raw(place: tuple[str, int], data: bytes) -> bytes:
    """What comes until the witness closes the connection."""
    with closing(socket.create_connection(place, timeout=10)) as connection:
        connection.sendall(data)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
        return found


def test_the_answers_of_the_specification(place: tuple[str, int], witness: Witness) -> None:
    status, kind, line = asked(place, "POST", "/add-checkpoint", LOG.asked(0, 10))
    assert (status, line.startswith("— witness.example/ana ".encode()), line.endswith(b"\n")) == (200, True, True)
    assert kind == "text/plain; charset=utf-8"
    assert asked(place, "POST", "/add-checkpoint", LOG.asked(0, 12)) == (409, "text/x.tlog.size", b"10\n")
    other = Log(50, seed="x")
    for body, code in ((b"x", 400), (other.asked(10, 20), 422), (Log(9, signer=witness._key).signed(3), 400)):
        assert asked(place, "POST", "/add-checkpoint", body)[0] == code
    newest = f"/{sha256(b'example.com/log').hexdigest()}/checkpoint"
    assert asked(place, "GET", newest) == (200, "text/plain; charset=utf-8", LOG.signed(10) + line)
    for method, path, code in (
        ("GET", f"/{'0' * 64}/checkpoint", 404), ("GET", "/add-checkpoint", 405), ("POST", newest, 405),
        ("GET", "/", 404), ("POST", "/add-checkpoint/", 404), ("PUT", "/add-checkpoint", 405),
    ):  # fmt: skip
        assert asked(place, method, path)[0] == code, (method, path)


def test_one_connection_serves_many_requests(place: tuple[str, int]) -> None:
    with closing(http.client.HTTPConnection(*place, timeout=10)) as connection:
        for size in range(1, 30):
            connection.request("POST", "/add-checkpoint", LOG.asked(size - 1, size))
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:3]) == (200, "—".encode())


def test_a_body_that_is_too_long_is_not_read(place: tuple[str, int]) -> None:
    head = b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 99999999999\r\n\r\n"
    assert raw(place, head + b"x" * 200_000).startswith((b"HTTP/1.1 413", b""))
    chunks = b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n"
    assert raw(place, chunks + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 3).startswith((b"HTTP/1.1 413", b""))
    assert asked(place, "POST", "/add-checkpoint", b"x" * 70_000)[0] == 413
    assert asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST /add-ch",
        b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 100\r\n\r\nold 0\n",
        b"\x16\x03\x01" + os.urandom(300),
        b"A" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9_000,
        b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: -1\r\n\r\n",
        b"\r\n" * 20_000,
        b"GET / HTTP/1.1\r\nhost: w\r\n\r\nPOST /add-ch",
    ],
)
def test_what_is_no_request_or_comes_too_slowly_is_ended(place: tuple[str, int], data: bytes) -> None:
    begun = time.monotonic()
    raw(place, data)
    assert time.monotonic() - begun < 3
    assert asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))[0] == 200


def test_byte_by_byte_is_too_slow_and_disturbs_nobody(place: tuple[str, int]) -> None:
    slow = [socket.create_connection(place, timeout=5) for _ in range(50)]
    ended = 0
    for byte in b"POST /add-checkpoint HTTP/1.1\r\n":
        for connection in slow:
            try:
                connection.send(bytes([byte]))
            except OSError:
                ended += 1
        time.sleep(0.03)
    assert ended > 0
    assert asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))[0] == 200
    for connection in slow:
        connection.close()


def test_too_many_at_once_are_told_to_come_again(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda *_: None)
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with served(witness) as place:
        idle = [socket.create_connection(place, timeout=5) for _ in range(6)]
        time.sleep(0.1)
        assert asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))[0] == 503
        for connection in idle:
            connection.close()
        time.sleep(0.1)
        assert asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))[0] == 200


def test_a_memory_that_fails_ends_the_witness(place: tuple[str, int], tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "w" / "memory.db")
    connection.execute("CREATE TRIGGER full BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'no room'); END")
    connection.commit()
    connection.close()
    status, _, said = asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))
    assert (status, b"nothing was cosigned" in said) == (500, True)
    time.sleep(1)
    with pytest.raises(OSError):
        asked(place, "POST", "/add-checkpoint", LOG.asked(0, 3))


@pytest.mark.parametrize("address", ["", "7390", "a:b", "127.0.0.1:", "127.0.0.1:99999", "::1:7390", "[::1]7390"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InvalidInput, match="not an address"):
        server.bound(address)


def test_an_address_that_is_taken_is_said() -> None:
    with closing(server.bound("127.0.0.1:0")) as first, pytest.raises(Failed, match="cannot listen"):
        server.bound(f"127.0.0.1:{first.getsockname()[1]}")
    with pytest.raises(Failed, match="cannot listen"):
        server.bound("192.0.2.1:7390")
