"""A download that is not whole and an echo that breaks are seen, whatever the way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.testing.load import Download, Echo
from stelae.testing.load.background import Background
from stelae.testing.load.download import check
from stelae.testing.load.websocket import frame
from tests.ports import free_port

from .misbehaving import Handler, answer, reset, serving

HOST = "guestbook.testing.localhost"
CONTENT = b"line 1 of 1, version 1\n"
WHOLE = CONTENT + f"end sha256:{hashlib.sha256(CONTENT).hexdigest()}\n".encode()


def reply(body: bytes, length: int | None = None) -> Handler:
    size = len(body) if length is None else length
    return answer(f"HTTP/1.1 200 OK\r\nX-Version: 3\r\nContent-Length: {size}\r\n\r\n".encode() + body)


def test_a_whole_download() -> None:
    with serving(reply(WHOLE)) as port:
        result = Download("127.0.0.1", port, host=HOST).start().wait(5)
    assert result.whole
    assert result.size == len(WHOLE)
    assert result.version == "3"


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (reply(WHOLE[:-9], len(WHOLE)), "closed after"),
        (reply(WHOLE[:-1]), "ended early"),
        (reply(CONTENT), "ended early"),
        (reply(WHOLE.replace(b"line 1", b"line 2")), "not what was sent"),
        (answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "answered 503"),
        (answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "between two chunks"),
        (reset, "reset"),
    ],
)
def test_a_download_that_is_not_whole(handler: Handler, problem: str) -> None:
    with serving(handler) as port:
        result = Download("127.0.0.1", port, host=HOST).start().wait(5)
    assert not result.whole
    assert problem in result.problem


@given(st.binary(max_size=200), st.integers(0, 199))
def test_no_part_of_a_body_is_whole(content: bytes, cut: int) -> None:
    body = content + f"end sha256:{hashlib.sha256(content).hexdigest()}\n".encode()
    assert check(body) == ""
    assert check(body[: min(cut, len(body) - 1)]) != ""


def test_an_echo_that_nobody_answers() -> None:
    result = Echo("127.0.0.1", free_port(), host=HOST).start().wait(5)
    assert "refused" in result.problem.lower() or "111" in result.problem
    assert result.echoed == 0


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "answered 200"),
        (answer(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: wrong\r\n\r\n"), "no WebSocket"),
        (lambda connection: time.sleep(0.4), "within 0.2 s"),
        (reset, "reset"),
    ],
)
def test_an_echo_that_is_not_a_websocket(handler: Handler, problem: str) -> None:
    with serving(handler) as port:
        result = Echo("127.0.0.1", port, host=HOST, timeout=0.2).start().wait(5)
    assert problem in result.problem


@pytest.mark.parametrize("kind", [Download, Echo])
def test_only_the_loopback_is_a_target(kind: type[Download] | type[Echo]) -> None:
    with pytest.raises(InvalidInput, match="loopback"):
        kind("192.0.2.1", 80, host=HOST)


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_frame_is_masked_as_the_standard_says(payload: bytes, mask: bytes) -> None:
    from websockets.frames import Frame
    from websockets.streams import StreamReader

    def parse() -> Generator[None, None, bytes]:
        return (yield from Frame.parse(stream.read_exact, mask=True)).data

    stream = StreamReader()
    stream.feed_data(frame(1, payload, mask))
    with pytest.raises(StopIteration) as parsed:
        next(parse())
    assert parsed.value.value == payload


class Failing(Background[int]):
    """Fails before it has begun."""

    async def _main(self) -> int:
        raise RuntimeError("no luck")


class Stuck(Background[int]):
    """Never begins, and ends when it is asked to."""

    async def _main(self) -> int:
        await self._stopped.wait()
        return 7


def test_what_fails_in_the_background_is_raised_to_who_waits() -> None:
    background = Failing("failing").start()
    with pytest.raises(RuntimeError, match="no luck"):
        background.wait(5)
    with pytest.raises(RuntimeError, match="no luck"):
        background.stop(5)


def test_what_never_begins_is_a_timeout() -> None:
    background = Stuck("stuck")
    with pytest.raises(TimeoutError, match="did not begin"):
        background.start(0.05)
    assert background.wait(5) == 7
