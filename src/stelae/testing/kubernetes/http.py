"""An HTTP server on a loopback port that can break off, hang and be away: real sockets, in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import h11


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    """An answer: its ``body``, or a ``stream`` of parts that ends when it ends."""

    code: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


Upgrade = Callable[[Asked, asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]
Handler = Callable[[Asked], Awaitable[Answer]]


class Server:
    """Answers requests with *handler*; a request for a WebSocket goes to *upgrade* with its first bytes."""

    def __init__(self, handler: Handler, upgrade: Upgrade) -> None:
        self._handler = handler
        self._upgrade = upgrade
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, bool] = {}  # and whether it is a stream
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and break every connection off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, *, streams_only: bool = False) -> None:
        """Break connections off, with what was on its way."""
        for writer, is_stream in list(self._open.items()):
            if is_stream or not streams_only:
                writer.transport.abort()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(self._open.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio serves a connection in a task"
        self._tasks.add(task)
        self._open[writer] = False
        try:
            with suppress(OSError, h11.RemoteProtocolError, asyncio.CancelledError):
                await self._talk(reader, writer)
        finally:
            self._open.pop(writer, None)
            self._tasks.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
        while True:
            taken = await _request(http, reader)
            if taken is None:
                return
            asked, raw = taken
            if "websocket" in asked.headers.get("upgrade", "").lower():
                await self._upgrade(asked, reader, writer, raw)
                return
            answer = await self._handler(asked)
            await self._send(http, reader, writer, answer)
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _send(
        self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        headers = {"Content-Type": "application/json", **answer.headers}
        if answer.stream is None:
            headers["Content-Length"] = str(len(answer.body))
        else:
            headers |= {"Transfer-Encoding": "chunked", "Connection": "close"}  # its end is watched by reading
        head = h11.Response(status_code=answer.code, headers=list(headers.items()))
        writer.write(http.send(head) or b"")
        if answer.stream is None:
            writer.write(http.send(h11.Data(data=answer.body)) or b"")
        else:
            self._open[writer] = True
            hung_up = asyncio.ensure_future(reader.read(1))
            try:
                await self._pour(http, writer, answer.stream, hung_up)
            finally:
                hung_up.cancel()
                self._open[writer] = False
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    async def _pour(
        self, http: h11.Connection, writer: asyncio.StreamWriter, stream: AsyncIterator[bytes],
        hung_up: asyncio.Future[bytes],
    ) -> None:  # fmt: skip
        """Send a stream until it ends, or nobody is there to read it."""
        await writer.drain()
        while True:
            part = asyncio.ensure_future(anext(stream, None))
            waits: set[asyncio.Future[Any]] = {part, hung_up}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not part.done():
                part.cancel()
                with suppress(asyncio.CancelledError):
                    await part
                raise ConnectionResetError
            data = part.result()
            if data is None:
                return
            writer.write(http.send(h11.Data(data=data)) or b"")
            await writer.drain()


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> tuple[Asked, bytes] | None:
    """Return the next request and the bytes of its head, None when there is none."""
    head: h11.Request | None = None
    body, raw = b"", b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(65536)
            raw += data if head is None else b""
            http.receive_data(data)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None, "a message has a head"
            url = urlsplit(head.target.decode())
            headers = {key.decode().lower(): value.decode("latin-1") for key, value in head.headers}
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            return Asked(head.method.decode(), url.path, query, headers, bytes(body)), raw
        else:
            return None
