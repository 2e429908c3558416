"""Small real HTTP servers and a load for the router's tests, all in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from stelae.domain.allocation import InstanceId
from stelae.platforms.port import RouteEntry

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


class App:
    """An instance: says its name, counts posted ids, streams slowly and echoes over an upgraded connection."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
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
        return RouteEntry(instance=InstanceId(self.name), address=self.address, port=self.port, weight=weight)

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
        if self.silent:
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
        body = self.name.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()


class Client:
    """One connection to the proxy, kept alive from request to request."""

    def __init__(self, port: int) -> None:
        self._port = port
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
