"""The other end of the guestbook: a small HTTP server that counts the ids that were carried out.

It speaks the guestbook's own ``POST /entries``, ``GET /entries`` and ``GET /counts``.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from typing import Any

from stelae.testing.load.background import Background

RECENT = 20
MAX_BODY = 64 * 1024


class Collector(Background[dict[str, int]]):
    """Listens on *address* and *port* (0 takes a free one) and counts.

    Raises OSError when the address cannot be had.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.create_server((address, port), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        super().__init__(f"collector on port {self.port}")
        self._counts: dict[str, int] = {}
        self._recent: deque[dict[str, str]] = deque(maxlen=RECENT)
        self._connections: set[asyncio.Task[None]] = set()

    def counts(self) -> dict[str, int]:
        """Return how often each id was carried out, so far."""
        return self._counts.copy()

    async def _main(self) -> dict[str, int]:
        server = await asyncio.start_server(self._serve, sock=self._socket)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for task in self._connections:  # before the server is waited for: since Python 3.12 it waits for them
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()
        return self.counts()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            status, message = self._answer(*await _read(reader))
            body = json.dumps(message).encode()
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            return  # the other end is gone, or this one is stopping
        finally:
            writer.close()

    def _answer(self, method: str, path: str, body: bytes) -> tuple[str, dict[str, Any]]:
        match method, path:
            case "POST", "/entries":
                try:
                    entry = {"id": str(json.loads(body)["id"]), "text": str(json.loads(body).get("text", ""))}
                except (ValueError, KeyError, TypeError, AttributeError):
                    return "400 Bad Request", {"error": "not an entry"}
                count = self._counts[entry["id"]] = self._counts.get(entry["id"], 0) + 1
                self._recent.appendleft(entry)
                return "201 Created", {"id": entry["id"], "count": count}
            case "GET", "/entries":
                return "200 OK", {"entries": list(self._recent)}
            case "GET", "/counts":
                return "200 OK", {"counts": self.counts()}
        return "404 Not Found", {"error": "no such path"}


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    """Return a request's method, path and body; raises EOFError when it is not whole or not HTTP."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise EOFError
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length" and value.strip().isdecimal():
            length = int(value)
    if length > MAX_BODY:
        raise EOFError
    return words[0], words[1], await reader.readexactly(length)
