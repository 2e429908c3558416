"""A steady stream of requests, half GET, half POST; half over kept connections, half over new ones.

The rate does not depend on the answers: a request is sent when it is due, whether or not the ones before
it were answered, so a pause of the service shows in full.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time

from stelae.domain.units import SECOND, Duration
from stelae.system.clock import now
from stelae.testing.load.background import Background
from stelae.testing.load.http import Connection, CutShort, Head, loopback, request
from stelae.testing.load.result import Answer, Failure, LoadResult, Trouble

IDLE_SECONDS = 1.0
"""A kept connection that was idle for longer is not used again: the other end may be closing it now."""

LONGEST_SLEEP = 0.05


class Load(Background[LoadResult]):
    """Sends *rate* requests a second to *port* of the loopback *address*, for the host name *host*.

    GET asks for ``/``; every other request, unless *posts* is false, is a POST that sends an entry with an id of its
    own to ``/entries``. A request that is not
    answered whole within *timeout* seconds, or with a status of 400 or more, is a failure. ``stop`` waits for
    the requests that are under way. Raises InvalidInput when *address* is not of the loopback.
    """

    def __init__(
        self, address: str, port: int, *, host: str, rate: float = 100, timeout: float = 10, posts: bool = True
    ) -> None:
        super().__init__(f"load on port {port}")
        self._address, self._port = loopback(address), port
        self._host, self._rate, self._timeout, self._posts = host, rate, timeout, posts
        self._prefix = secrets.token_hex(4)
        self._kept: list[Connection] = []
        self._answers: list[Answer] = []
        self._failures: list[Failure] = []
        self._ids: set[str] = set()
        self._acknowledged: set[str] = set()

    def result(self) -> LoadResult:
        """Return what came of it so far, while it runs."""
        return LoadResult(
            answers=tuple(self._answers), failures=tuple(self._failures),
            ids=frozenset(self._ids.copy()), acknowledged=frozenset(self._acknowledged.copy()),
        )  # fmt: skip

    async def _main(self) -> LoadResult:
        loop = asyncio.get_running_loop()
        under_way: set[asyncio.Task[None]] = set()
        begun, number = loop.time(), 0
        self._ready.set()
        while not self._stopped.is_set():
            rest = begun + number / self._rate - loop.time()
            if rest > 0:
                await asyncio.sleep(min(rest, LONGEST_SLEEP))
                continue
            task = asyncio.create_task(self._one(number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            # Behind schedule the loop above would never let go, and nothing would be sent.
            await asyncio.sleep(0)
        await asyncio.gather(*under_way)
        for connection in self._kept:
            connection.close()
        await asyncio.sleep(0)  # lets the transports close
        return self.result()

    async def _one(self, number: int) -> None:
        method = "POST" if self._posts and number % 2 else "GET"
        identity = f"{self._prefix}-{number}" if method == "POST" else ""
        if identity:
            self._ids.add(identity)
        at, begun = now(), time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                head, body = await self._send(method, identity, keep=number % 4 < 2)
        except TimeoutError:
            trouble, detail = Trouble.TIMEOUT, f"no whole answer within {self._timeout:g} s"
        except ConnectionRefusedError as error:
            trouble, detail = Trouble.REFUSED, str(error)
        except OSError as error:
            trouble, detail = Trouble.RESET, str(error)
        except CutShort as error:
            trouble, detail = Trouble.CUT, str(error)
        else:
            if head.status < 400:
                self._well(at, _since(begun), method, head, identity)
                return
            trouble, detail = Trouble.STATUS, f"{head.status} {body[:200].decode('utf-8', 'replace')}".strip()
        self._failures.append(
            Failure(at=at, took=_since(begun), method=method, trouble=trouble, detail=detail, id=identity)
        )

    def _well(self, at: int, took: Duration, method: str, head: Head, identity: str) -> None:
        if identity:
            self._acknowledged.add(identity)
        self._answers.append(
            Answer(
                at=at,
                took=took,
                method=method,
                status=head.status,
                version=head.fields.get("x-version", ""),
                instance=head.fields.get("x-instance", ""),
            )
        )

    async def _send(self, method: str, identity: str, *, keep: bool) -> tuple[Head, bytes]:
        body = json.dumps({"id": identity, "text": "load"}).encode() if identity else b""
        data = request(method, "/entries" if identity else "/", self._host, body=body, keep=keep)
        connection = (self._take() if keep else None) or await Connection.open(self._address, self._port)
        try:
            answer = await connection.exchange(data)
        except BaseException:
            connection.close()
            raise
        if keep and connection.usable():
            connection.used_at = time.monotonic()
            self._kept.append(connection)
        else:
            connection.close()
        return answer

    def _take(self) -> Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if connection.usable() and time.monotonic() - connection.used_at < IDLE_SECONDS:
                return connection
            connection.close()
        return None


def _since(begun: float) -> Duration:
    return round((time.monotonic() - begun) * SECOND)
