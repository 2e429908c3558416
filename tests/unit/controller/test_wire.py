"""The command line's own HTTP: whole answers are read as they are, and broken ones are known."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.controller import wire
from stelae.controller.client import Client, ConnectionLost
from stelae.controller.wire import BrokenAnswer, Connection
from stelae.domain.errors import Failed

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(path: Path, *parts: bytes) -> Iterator[list[bytes]]:
    """A server at *path* that takes one request (its bytes go to what is given) and sends *parts*, then closes."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(1 << 20))
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            thread.join(5)
            path.unlink()


def get(path: Path) -> Connection:
    connection = Connection(path, 5)
    connection.ask("GET", "/v1/x?a=b", {"x-y": "z"}, None)
    return connection


def asked_and_closed(path: Path) -> None:
    connection = Connection(path, 5)
    try:
        connection.ask("GET", "/", {}, None)
        connection.read()
    finally:
        connection.close()


def test_a_counted_body(tmp_path: Path) -> None:
    with answering(tmp_path / "s", OK + b"Content-Length: 5\r\nX: y\r\n\r\nhe", b"llo and more") as asked:
        connection = get(tmp_path / "s")
        assert (connection.status, connection.read(), connection.read()) == (200, b"hello", b"")
        connection.close()
    assert asked == [b"GET /v1/x?a=b HTTP/1.1\r\nhost: stelae\r\nx-y: z\r\n\r\n"]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"abc", b"content-length: 3\r\n\r\nabc"),
        (io.BytesIO(b"abc"), b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ],
    ids=["counted", "chunked"],
)
def test_a_body_is_sent_with_its_length_or_in_chunks(body: bytes | io.BytesIO, sent: bytes, tmp_path: Path) -> None:
    with answering(tmp_path / "s", OK + b"content-length: 0\r\n\r\n") as asked:
        connection = Connection(tmp_path / "s", 5)
        connection.ask("POST", "/", {}, body)
        assert connection.read() == b""
        connection.close()
    assert asked[0].startswith(b"POST / HTTP/1.1\r\nhost: stelae\r\n")
    assert sent.startswith(asked[0].partition(b"stelae\r\n")[2])


@settings(max_examples=30, deadline=None)
@given(
    body=st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"\n")),
    cuts=st.lists(st.integers(1, 60), max_size=10),
)
def test_chunks_and_lines_however_they_are_cut(
    body: bytes, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("wire") / "s"
    chunks, rest = [], body
    for cut in [*cuts, len(body)]:
        piece, rest = rest[:cut], rest[cut:]
        chunks += [b"%x;name=value\r\n%s\r\n" % (len(piece), piece)] if piece else []
    with answering(path, OK + b"Transfer-Encoding: Chunked\r\n\r\n", *chunks, b"0\r\n\r\n"):
        connection = get(path)
        lines = list(iter(connection.readline, b""))
        connection.close()
    assert lines == body.splitlines(keepends=True) or b"".join(lines) == body
    assert all(line.count(b"\n") <= 1 for line in lines)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 200 OK", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 two OK\r\n\r\n", OK + b"\r\n",
        OK + b"content-length: -1\r\n\r\n", OK + b"content-length: 9\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\nx\r\n", OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n",
        OK + b"a: b\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(200)),
        OK + b"a: " + b"b" * wire.LONGEST_LINE + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_broken_is_not_taken_for_an_answer(answer: bytes, tmp_path: Path) -> None:
    with answering(tmp_path / "s", answer), pytest.raises((BrokenAnswer, ConnectionError)):
        asked_and_closed(tmp_path / "s")
    with answering(tmp_path / "s", answer), pytest.raises((ConnectionLost, Failed)):
        Client(tmp_path / "s").get("/v1/ping")
