"""Small real HTTP servers and a load for the router's tests, all in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import string
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from stelae.domain.allocation import InstanceId
from stelae.domain.release import ReleaseId
from stelae.platforms.local.proxy.launch import (
    SupervisorStatus,
    layout_of,
    stop_supervisor,
    supervisor_status,
)
from stelae.platforms.port import RouteEntry
from stelae.system.installation import Installation

STREAM_PARTS = 20

# The key and its answer are the example of RFC 6455, section 1.3; HAProxy checks them.
_UPGRADE = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


_OPEN: list[App | Client] = []


def on_loop(body: Callable[[], Awaitable[None]]) -> None:
    """Run *body* in an event loop, and end every App and Client that it made."""

    async def whole() -> None:
        try:
            await body()
        finally:
            while _OPEN:
                await _OPEN.pop().end()
            await asyncio.sleep(0.01)

    asyncio.run(whole())


@contextlib.contextmanager
def proxy_installation() -> Iterator[Installation]:
    """An installation with a proxy of its own; what is left of it in the end is ended."""
    folder = Path(tempfile.mkdtemp(prefix="strt"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = "st" + "".join(random.choices(string.ascii_lowercase, k=4))
    made = Installation(
        name=name, state=folder / "state", run=folder / "run", http_port=port, http_address="127.0.0.1"
    )
    try:
        yield made
    finally:
        left = supervisor_status(layout_of(made))
        stop_supervisor(made)
        for worker in left.workers if left else ():
            assert not alive(worker.pid)
        shutil.rmtree(folder)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def status_of(installation: Installation) -> SupervisorStatus:
    status = supervisor_status(layout_of(installation))
    assert status is not None
    return status


def current(installation: Installation) -> Path:
    (socket_path,) = [w.socket for w in status_of(installation).workers if not w.retired]
    return socket_path


async def until(condition: Callable[[], bool], limit: float = 20) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.02)


def apps(count: int, prefix: str = "web-a") -> Awaitable[list[App]]:
    return asyncio.gather(*(App(f"{prefix}-{n}", f"127.0.0.{10 + n}").start() for n in range(1, count + 1)))


async def ask_once(installation: Installation, host: str, **more: str) -> tuple[int, bytes]:
    client = Client(installation.http_port)
    try:
        return await client.ask(host, **more)
    finally:
        client.close()


class App:
    """An instance: says its name, counts posted ids, streams slowly and echoes over an upgraded connection.

    ``/status/N`` is answered with status N, ``/slow/S`` after S seconds, ``/close`` not at all, ``/hints`` with early
    hints first; ``failed`` counts those that are errors of the instance.
    """

    def __init__(self, name: str, address: str, release: str = "") -> None:
        self.name = name
        self.release = ReleaseId(release)
        self.failed = 0
        self.address = address
        self.port = 0
        self.requests = 0
        self.posted: Counter[str] = Counter()
        self.headers = b""
        self.silent = False  # takes a request and hangs up
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        _OPEN.append(self)

    async def start(self) -> App:
        self._server = await asyncio.start_server(self._serve, self.address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def end(self) -> None:
        """Be gone as a killed process is."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        await asyncio.sleep(0)

    def entry(self, weight: int = 100) -> RouteEntry:
        return RouteEntry(
            instance=InstanceId(self.name), address=self.address, port=self.port, weight=weight, release=self.release
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].split(b" ")
        self.headers = head
        self.requests += 1
        if method == b"POST":
            self.posted[path.decode()] += 1
        if self.silent or path.startswith(b"/close"):
            self.failed += 1
            return
        if path == b"/stream":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (STREAM_PARTS * 100))
            for _ in range(STREAM_PARTS):
                writer.write(b"x" * 100)
                await writer.drain()
                await asyncio.sleep(0.1)
            return
        if path == b"/tunnel":
            writer.write(_SWITCHING)
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            return
        _, verb, argument, *_ = *path.split(b"/"), b"", b""
        status = argument if verb == b"status" else b"200"
        self.failed += status >= b"500"
        if path.startswith(b"/hints"):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        if path.startswith(b"/slow/"):
            await asyncio.sleep(float(path.split(b"/")[2]))
        body = self.name.encode()
        writer.write(b"HTTP/1.1 %s OK\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()


class Client:
    """One connection to the proxy, kept alive from request to request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.head = ""  # of the last answer, in lower case
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        _OPEN.append(self)

    async def ask(self, host: str, path: str = "/", method: str = "GET", extra: str = "") -> tuple[int, bytes]:
        """Return status and body; raises OSError or IncompleteReadError when the answer does not come whole."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{extra}\r\n".encode("latin-1"))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        while head.split(b" ")[1] in (b"100", b"103"):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        self.head = head.decode("latin-1")
        size = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0
        )
        body = await reader.readexactly(size)
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ")[1]), body

    async def upgrade(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return an open tunnel to ``/tunnel``."""
        status, _ = await self.ask(host, "/tunnel", extra=_UPGRADE)
        assert status == 101
        assert self._streams is not None
        return self._streams

    async def end(self) -> None:
        self.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Load:
    """Keeps asking, half of it POST with ids, over several connections; counts what came and what failed."""

    def __init__(self, port: int, host: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.refused = 0
        self.posted: list[str] = []
        self._port, self._host = port, host
        self._ending = False

    async def _run(self, worker: int) -> None:
        client = Client(self._port)
        number = 0
        while not self._ending:
            number += 1
            method = "POST" if number % 2 else "GET"
            path = f"/{worker}-{number}"
            try:
                status, body = await client.ask(self._host, path, method)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(f"{method} {path}: {error!r}")
                self.refused += isinstance(error, ConnectionRefusedError)
                client.close()
                continue
            if status == 200:
                self.answers[body.decode()] += 1
                if method == "POST":
                    self.posted.append(path)
            else:
                self.failures.append(f"{method} {path}: {status} {body!r}")
            await asyncio.sleep(0.002)
        client.close()

    @contextlib.asynccontextmanager
    async def running(self, workers: int = 8) -> AsyncIterator[Load]:
        tasks = [asyncio.create_task(self._run(worker)) for worker in range(workers)]
        try:
            yield self
        finally:
            self._ending = True
            await asyncio.wait_for(asyncio.gather(*tasks), 20)
