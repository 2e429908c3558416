"""Where entries live: in this process's memory, or in a collector on the network.

An instance is read-only and is replaced on each deployment, so what must outlive it has to be kept
elsewhere. The collector stands for the database that a real application would have.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any, Protocol

RECENT = 20
TIMEOUT_SECONDS = 5.0


class StoreUnavailable(Exception):
    """The collector did not answer, or said no."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line in the book. The id is chosen by whoever posts it, once for each entry."""

    id: str
    text: str


class Store(Protocol):
    """Keeps entries, and counts how often each id was posted: 0 is a lost entry, 2 a doubled one."""

    async def add(self, entry: Entry) -> int:
        """Keep *entry*; return how often its id was posted by now."""

    async def recent(self) -> tuple[Entry, ...]:
        """Return the last entries, newest first."""

    async def counts(self) -> dict[str, int]:
        """Return how often each id was posted."""


class MemoryStore:
    """Entries in memory: gone with the instance, and each instance has its own."""

    def __init__(self) -> None:
        self._recent: deque[Entry] = deque(maxlen=RECENT)
        self._counts: Counter[str] = Counter()

    async def add(self, entry: Entry) -> int:
        self._counts[entry.id] += 1
        self._recent.appendleft(entry)
        return self._counts[entry.id]

    async def recent(self) -> tuple[Entry, ...]:
        return tuple(self._recent)

    async def counts(self) -> dict[str, int]:
        return dict(self._counts)


class CollectorStore:
    """Entries in a collector: anything that speaks this application's own ``/entries`` and ``/counts``.

    Every call opens a connection of its own: a kept one could be closed by the other end while a POST is
    on its way, and then nobody knows whether the entry was kept.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def add(self, entry: Entry) -> int:
        return int((await self._call("POST", "/entries", asdict(entry)))["count"])

    async def recent(self) -> tuple[Entry, ...]:
        answer = await self._call("GET", "/entries")
        return tuple(Entry(str(item["id"]), str(item["text"])) for item in answer["entries"])

    async def counts(self) -> dict[str, int]:
        return dict((await self._call("GET", "/counts"))["counts"])

    async def _call(self, method: str, path: str, message: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status, body = await self._exchange(
                    method, path, b"" if message is None else json.dumps(message).encode()
                )
            if status not in (200, 201):
                raise StoreUnavailable(f"the collector answered {status}")
            answer = json.loads(body)
        except TimeoutError as error:
            raise StoreUnavailable(f"the collector did not answer within {TIMEOUT_SECONDS:g} s") from error
        except (OSError, ValueError, IndexError) as error:
            raise StoreUnavailable(f"the collector could not be asked: {error}") from error
        return dict(answer)

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer_head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return int(answer_head.split(b" ", 2)[1]), answer


def open_store(url: str) -> Store:
    """Return the store that *url* names: ``http://HOST:PORT``, or this process's memory when it is empty.

    Raises ValueError when *url* is something else.
    """
    if not url:
        return MemoryStore()
    host, colon, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    if not url.startswith("http://") or not host or not colon or not port.isdecimal() or "/" in host:
        raise ValueError(f"COLLECTOR_URL is {url!r}; expected http://HOST:PORT")
    return CollectorStore(host, int(port))
