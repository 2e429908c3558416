"""How the API answers: JSON, typed errors, and streams of lines that end when the client goes away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stelae.controller.contract import Json
from stelae.controller.messages import MAX_BODY, Message
from stelae.controller.talk import Typed
from stelae.domain.errors import InvalidInput, StelaeError, Unreachable

STATUS = {"invalid": 400, "refused": 403, "conflict": 409, "failed": 422, "unreachable": 503}

LONGEST_FAREWELL = 10
"""Seconds that an exchange has to end when its client has gone."""

log = structlog.get_logger("stelae.api")


def encode(value: Json) -> bytes:
    """Return *value* as one line of JSON; text that is not valid Unicode becomes question marks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def answer(value: Json, status: int = 200) -> Response:
    """Return *value* as an answer."""
    return Response(encode(value), status_code=status, media_type="application/json")


def error_body(error: StelaeError) -> Json:
    """Return *error* as ``{"error": {...}}``."""
    return {
        "error": {
            "kind": error.kind,
            "message": error.message,
            "where": error.where,
            "hint": error.hint,
            "details": list(error.details),
            "exit": error.exit_code,
        }
    }


def internal_body(error: Exception, where: str) -> Json:
    """Log *error* whole, and return what a client may know of it."""
    log.error("unexpected error", where=where, exc_info=error)
    message = f"the controller had an unexpected error ({type(error).__name__}); see the controller's log"
    return {"error": {"kind": "internal", "message": message, "where": "", "hint": "", "details": [], "exit": 1}}


def error_answer(error: Exception, where: str) -> Response:
    """Return the answer for *error*: its own status when it is a StelaeError, else 500."""
    if isinstance(error, StelaeError):
        return answer(error_body(error), STATUS.get(error.kind, 500))
    return answer(internal_body(error, where), 500)


class OpenStreams:
    """The streams that are open now, so that they can be ended when the controller stops."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()

    @contextmanager
    def one(self) -> Iterator[anyio.CancelScope]:
        """Count the block as an open stream; its scope is cancelled by ``end``."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def end(self) -> None:
        """End them all."""
        for scope in tuple(self._scopes):
            scope.cancel()


class Lines(Response):
    """Answers 200 with one JSON object a line; the last one has a ``result`` or an ``error``.

    *open_stream* is called when the answer starts; its iterator is closed in the same task, whether the stream
    ended, failed, or the client went away.
    """

    media_type = "application/x-ndjson"

    def __init__(self, open_stream: Callable[[], AsyncIterator[Json]], where: str) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.open_stream = open_stream
        self.where = where

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines until they end, nobody reads them, or the controller stops."""
        streams: OpenStreams = scope["app"].state.streams
        async with anyio.create_task_group() as group:

            async def until_gone() -> None:
                await self._listen(receive)
                group.cancel_scope.cancel()

            group.start_soon(until_gone)
            with streams.one() as stream:
                await self._send_all(send)
            if stream.cancel_called:
                stopping = Unreachable("the controller stops", hint="what was asked for is recorded: stelae status")
                await self._send_line(send, error_body(stopping))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()

    async def _listen(self, receive: Receive) -> None:
        """Return when nobody reads the answer any more."""
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # An empty chunk makes the head go out now: the first line may be long in coming.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        lines = self.open_stream()
        try:
            line: Json = {}
            async for line in lines:
                await self._send_line(send, line)
                # Sending waits only when the buffer is full: without this a quick stream would stop all others,
                # and would not see that its client is gone.
                await anyio.lowlevel.checkpoint()
            # The last line says that this is the end, so that a connection that breaks off is not taken for it.
            if "result" not in line:
                await self._send_line(send, {"result": {}})
        except StelaeError as error:
            await self._send_line(send, error_body(error))
        except Exception as error:  # noqa: BLE001 - the outermost frame of the API
            await self._send_line(send, internal_body(error, self.where))
        finally:
            close = getattr(lines, "aclose", None)
            if close is not None:
                await close()

    async def _send_line(self, send: Send, value: Json) -> None:
        await send({"type": "http.response.body", "body": encode(value) + b"\n", "more_body": True})


class Exchange(Lines):
    """Answers as ``Lines`` does while the body comes: each of its lines goes through *read* to *typed*.

    When the client goes away the stream is told, and has some seconds to end by itself.
    """

    def __init__(
        self, open_stream: Callable[[], AsyncIterator[Json]], where: str, typed: Typed,
        read: Callable[[bytes], Message],
    ) -> None:  # fmt: skip
        super().__init__(open_stream, where)
        self._typed = typed
        self._read = read

    async def _listen(self, receive: Receive) -> None:
        left = b""
        ended = False
        while (message := await receive())["type"] != "http.disconnect":
            if ended:
                continue
            *lines, left = (left + message.get("body", b"")).split(b"\n")
            self._take(lines, left)
            ended = self._typed.failed or not message.get("more_body", False)
            if ended:
                self._typed.end()
        self._typed.gone.set()
        self._typed.end()
        await anyio.sleep(LONGEST_FAREWELL)

    def _take(self, lines: list[bytes], left: bytes) -> None:
        try:
            for line in lines:
                self._typed.put(self._read(line).plain())
            if len(left) > MAX_BODY:
                raise InvalidInput(f"a line of more than {MAX_BODY} bytes", where="request")
        except StelaeError as error:
            self._typed.fail(error)


def actor(request: Request) -> str:
    """Return the name of the Unix user who asks."""
    return str(request.state.actor)
