"""The witness as an HTTP server for anybody: everything that a client may send or hold open has a limit."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, cast

import structlog
import uvicorn
from anyio import to_thread
from uvicorn.protocols.http.h11_impl import H11Protocol

from stelae.domain.errors import Failed, InvalidInput
from stelae.witness.request import LONGEST
from stelae.witness.witness import Answer, Witness

PATIENCE = 10.0
"""Seconds in which a request has to have come, all of it."""

IDLE = 30
"""Seconds that a connection is kept for another request."""

CONNECTIONS = 256
"""So many are open at once; who comes then is told to come again (503)."""

GRACE = 5
"""Seconds that requests under way have when the witness ends."""

_HEAD = 16 * 1024
_CHECKPOINT = re.compile(r"/([0-9a-f]{64})/checkpoint")
_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]*)):([0-9]{1,5})")

_TOO_LONG = Answer(413, b"the request is too long\n")
_NOTHING = Answer(404, b"there is nothing here: POST /add-checkpoint\n")
_BROKEN = Answer(500, b"the memory of this witness is out of order; nothing was cosigned\n")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = structlog.get_logger(__name__)


class _Late(Exception):
    """The client left, or took too long."""


class Application:
    """The ASGI application of *witness*; *broken* is called when its memory fails: nothing is cosigned any more."""

    def __init__(self, witness: Witness, broken: Callable[[Failed], None]) -> None:
        self._witness = witness
        self._broken = broken
        self._failed = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answered(scope, receive)
        except _Late:
            answer = Answer(408, b"the request did not come in time\n")
        headers = [(b"content-type", answer.kind.encode()), (b"content-length", b"%d" % len(answer.body))]
        if answer.status in (405, 408, 413):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answered(self, scope: Message, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        wanted = _CHECKPOINT.fullmatch(path)
        if wanted is not None and method in ("GET", "HEAD"):
            return await self._asked(lambda: self._witness.checkpoint(wanted[1]))
        if path != "/add-checkpoint" and wanted is None:
            return _NOTHING
        if method != "POST" or wanted is not None:
            return Answer(405, b"POST /add-checkpoint, or GET /HASH/checkpoint\n")
        body = await _read(receive)
        return _TOO_LONG if body is None else await self._asked(lambda: self._witness.add_checkpoint(body))

    async def _asked(self, work: Callable[[], Answer]) -> Answer:
        if self._failed:
            return _BROKEN
        try:
            return await to_thread.run_sync(work)
        except Failed as error:
            self._failed = True
            self._broken(error)
            return _BROKEN


async def _read(receive: Receive) -> bytes | None:
    """Return the body, None when it is too long; raises _Late."""
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Late
                body += message.get("body", b"")
                if len(body) > LONGEST:
                    return None
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise _Late from None


class _Patient(H11Protocol):
    """uvicorn's HTTP protocol, that ends a connection on which the head of a request does not come to its end."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))  # nothing else connects
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self._timer is None:
            self._timer = self.loop.call_later(PATIENCE, self.transport.abort)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal: that is done below."""
        yield


def bound(address: str) -> socket.socket:
    """Return a socket that listens at *address*, ``HOST:PORT``; raises InvalidInput, and Failed when it cannot."""
    found = _LISTEN.fullmatch(address)
    if found is None or int(found[3]) > 65_535:
        raise InvalidInput(f"not an address: {address!r}", hint="HOST:PORT, such as 127.0.0.1:7390 or [::1]:7390")
    host = found[1] or found[2] or "0.0.0.0"  # noqa: S104 - asked for by leaving the host out
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, int(found[3]), type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise Failed(f"cannot listen at {address}: {error.strerror}", hint="is another program there?") from error
    listener.setblocking(False)
    return listener


async def serve(witness: Witness, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer on *listener* until SIGTERM or SIGINT; *ready* is called when the first request can come.

    Raises Failed when the memory fails: whoever started this starts it again, which looks at the file anew.
    """
    failures: list[Failed] = []
    server: _Server

    def broken(error: Failed) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        Application(witness, broken), http=_Patient, ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS, h11_max_incomplete_event_size=_HEAD,
        timeout_keep_alive=IDLE, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    ready()
    await server.serve(sockets=[listener])
    if failures:
        raise failures[0]
