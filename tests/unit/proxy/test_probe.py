"""The prober against servers of every kind, good and hostile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.process import Health, Probe, Process
from stelae.domain.units import MILLISECOND, SECOND
from stelae.platforms.probe import Prober, ProbeState, probe

KEY = (EnvironmentId("guestbook/testing"), InstanceId("web-a-1"))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def health(kind: Probe = Probe.HTTP, *, interval: int = 20, timeout: int = 200, path: str = "/healthz") -> Health:
    return Health(probe=kind, path=path, interval=interval * MILLISECOND, timeout=timeout * MILLISECOND)


def process(settings: Health, port: int | None) -> Process:
    return Process(name="web", command=("x",), health=settings, port=port)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


def saying(answer: bytes, seen: list[bytes] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(request)
        writer.write(answer)
        await writer.drain()

    return handle


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 204\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", ""),
        (b"HTTP/1.1 399 \n", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "GET /healthz answered 400"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "GET /healthz answered 503"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "GET /healthz answered 101"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "GET /healthz was not answered in HTTP"),
        (b"HTTP/2 200\r\n\r\n", "GET /healthz was not answered in HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "GET /healthz was not answered in HTTP"),
        (b"\x00\xff" * 5000, "GET /healthz was not answered in HTTP"),
        (b"HTTP/1.1 200 OK", "GET /healthz was not answered in HTTP"),
        (b"", "GET /healthz got no answer"),
    ],
)
def test_http_answers(answer: bytes, problem: str) -> None:
    async def body() -> None:
        seen: list[bytes] = []
        async with serving(saying(answer, seen)) as port:
            assert await probe(health(), "127.0.0.1", port) == problem
        assert seen[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: localhost")
        assert b"User-Agent: stelae-probe" in seen[0]

    asyncio.run(body())


def test_an_answer_that_never_ends_is_bounded_and_one_that_never_begins_is_given_up() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async def headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Endless: yes\r\n" * 1000)
            await writer.drain()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await asyncio.sleep(0.01)

    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    async def body() -> None:
        for handler, problem in (
            (flood, "GET /healthz was not answered in HTTP"), (headers, ""),
            (trickle, "did not answer within 0.2 s"), (hang, "did not answer within 0.2 s"),
        ):  # fmt: skip
            async with serving(handler) as port:
                began = time.monotonic()
                assert await probe(health(), "127.0.0.1", port) == problem
                assert time.monotonic() - began < 1

    asyncio.run(body())


def test_tcp_and_nothing_there() -> None:
    async def body() -> None:
        async with serving(saying(b"")) as port:
            assert await probe(health(Probe.TCP), "127.0.0.1", port) == ""
        assert await probe(health(Probe.TCP), "127.0.0.1", port) == f"nothing listens on port {port}"
        assert "cannot be reached" in await probe(health(Probe.TCP), "255.255.255.255", port)

    asyncio.run(body())


def test_ready_at_once_unready_after_three_failures_and_ready_again_after_one_success() -> None:
    async def body() -> None:
        answers = [b"200", b"500", b"500", b"200", b"500", b"500", b"500", b"200"]
        asked = 0
        history: list[ProbeState] = []
        times = iter(range(100, 200))
        prober = Prober(clock=lambda: next(times))

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            status = answers[min(asked, len(answers) - 1)]
            asked += 1
            await saying(b"HTTP/1.1 " + status + b" \r\n\r\n")(reader, writer)

        prober.on_change(lambda key: history.append(prober.state(key)))
        async with serving(handle) as port:
            prober.watch(KEY, process(health(interval=5), port), "127.0.0.1")
            assert prober.state(KEY) == ProbeState()
            prober.watch(KEY, process(health(), 1), "127.0.0.1")  # it is watched already
            while len(history) < 3:
                await asyncio.sleep(0.005)
            prober.forget(KEY)
            assert prober.state(KEY) == ProbeState()
        assert history == [
            ProbeState(ready=True, ever=True, since=100),
            ProbeState(ready=False, ever=True, problem="GET /healthz answered 500"),
            ProbeState(ready=True, ever=True, since=101),
        ]
        assert asked == len(answers)
        await prober.close()

    asyncio.run(body())


def test_first_probes_come_quickly_and_then_no_faster_than_the_interval() -> None:
    async def body() -> None:
        times: list[float] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times.append(time.monotonic())
            await saying(b"HTTP/1.1 503 \r\n\r\n")(reader, writer)

        prober = Prober()
        async with serving(handle) as port:
            began = time.monotonic()
            prober.watch(KEY, process(health(interval=16), port), "127.0.0.1")
            while len(times) < 6:
                await asyncio.sleep(0.005)
            await prober.close()
        pauses = [later - earlier for earlier, later in zip([began, *times], times, strict=False)]
        for pause, least in zip(pauses, (0, 0.01, 0.0125, 0.0156, 0.016, 0.016), strict=True):
            assert least <= pause < least + 0.06

    asyncio.run(body())


def test_running_needs_no_probe() -> None:
    async def body() -> None:
        prober = Prober(clock=lambda: 7)
        changed: list[object] = []
        prober.on_change(changed.append)
        prober.watch(KEY, process(health(Probe.RUNNING), None), "")
        assert prober.state(KEY) == ProbeState(ready=True, ever=True, since=7)
        assert changed == [KEY]
        await prober.close()
        assert prober.state(KEY) == ProbeState()

    asyncio.run(body())


def test_fifty_instances_are_not_probed_all_the_time() -> None:
    async def body() -> None:
        prober = Prober()
        async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
            settings = Health(probe=Probe.HTTP, path="/", interval=SECOND, timeout=SECOND)
            for number in range(50):
                prober.watch((KEY[0], InstanceId(str(number))), process(settings, port), "127.0.0.1")
            began = time.process_time()
            await asyncio.sleep(2.5)
            cost = (time.process_time() - began) / 2.5
            await prober.close()
        assert cost < 0.5, "who never waits takes all of a processor; what it takes is measured in bench/"

    asyncio.run(body())
