"""The controller's API: HTTP over its Unix socket. Routes check what comes in and call the use cases.

Every answer is JSON. An error is ``{"error": {"kind", "message", "where", "hint", "details", "exit"}}`` with a
status by kind (invalid 400, refused 403, conflict 409, failed 422, unreachable 503). What takes long answers with
a stream, one JSON object a line: ``{"progress": ...}``, and last ``{"result": ...}`` or ``{"error": ...}``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from stelae.controller import messages
from stelae.controller.answers import Exchange, Lines, OpenStreams, actor, answer, error_answer
from stelae.controller.contract import Service
from stelae.controller.openapi import ALL, BYTES_TYPE, JSON_TYPE, LINES_TYPE
from stelae.controller.operation import Operation
from stelae.controller.talk import Typed
from stelae.domain.errors import Failed, InvalidInput

MAX_PACK = 1 << 30
"""The largest git pack that is taken, in bytes."""

_AFTER_SIGNATURES = frozenset(
    {
        "approve", "deploy", "diff", "disk", "document", "export", "import_key", "keys", "plan", "promote", "proof",
        "push", "reproduce", "revoke", "show", "trust",
    }
)  # fmt: skip
"""What looks at what is signed, or with what: it waits for a signature that an earlier answer has promised. Nothing
else waits: ``abort`` and ``rollback`` always get in."""

_M = TypeVar("_M", bound=messages.Message)


async def at_once() -> None:
    """Nothing has to be waited for."""


def application(service: Service, temporary: Path, settled: Callable[[], Awaitable[None]] = at_once) -> Starlette:
    """Return the API over *service*. Packs wait as files in the folder *temporary* until they are taken. *settled*
    waits until all is signed of which an answer has told already, before anything is asked that looks at it.

    ``state.streams.end()`` ends its open streams.
    """
    paths: dict[str, dict[str, Operation]] = {}
    for operation in ALL:
        paths.setdefault(operation.path, {})[operation.method] = operation
    routes = [_route(path, methods, service, temporary, settled) for path, methods in paths.items()]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route})
    app.router.redirect_slashes = False
    app.state.streams = OpenStreams()
    return app


def _route(
    path: str, methods: dict[str, Operation], service: Service, temporary: Path,
    settled: Callable[[], Awaitable[None]],
) -> Route:  # fmt: skip
    async def answered(request: Request) -> Response:
        """The outermost frame of a route: what is raised inside becomes a typed answer."""
        try:
            if methods[request.method].name in _AFTER_SIGNATURES:
                await settled()
            return await _carry_out(methods[request.method], request, service, temporary)
        except Exception as error:  # noqa: BLE001 - the outermost frame of the API
            return error_answer(error, request.url.path)

    route = Route(path, answered, methods=list(methods))
    route.methods = set(methods)  # Starlette adds HEAD to GET, which would open streams that nobody reads
    return route


async def _carry_out(operation: Operation, request: Request, service: Service, temporary: Path) -> Response:
    message, asks = await _message(operation, request), actor(request)
    if operation.upload is not None:
        _typed(request, BYTES_TYPE)
        pack = await _save(request, temporary)
        try:
            return answer(await operation.upload(service, asks, message, pack))
        finally:
            pack.unlink(missing_ok=True)
    if operation.exchange is not None and operation.typed is not None:
        _typed(request, LINES_TYPE)
        typed = Typed()
        stream = partial(operation.exchange, service, asks, message, typed)
        return Exchange(stream, request.url.path, typed, partial(messages.decode, kind=operation.typed))
    if operation.stream is not None:
        return Lines(partial(operation.stream, service, asks, message), request.url.path)
    assert operation.call is not None
    return answer(await operation.call(service, asks, message))


async def _message(operation: Operation, request: Request) -> messages.Message:
    """Return what *request* says, from where *operation* takes it; raises InvalidInput."""
    if operation.place == "query":
        return _query(request, operation.takes)
    _query(request, messages.Nothing)
    if operation.place == "path":
        return messages.convert(request.path_params, operation.takes)
    _typed(request, JSON_TYPE)
    return await _body(request, operation.takes)


def _typed(request: Request, wanted: str) -> None:
    """Raise InvalidInput when the body is said to be of another media type than *wanted*."""
    given = request.headers.get("content-type", wanted)
    if given.partition(";")[0].strip().lower() != wanted:
        raise InvalidInput(f"a body of the type {given[:100]!r}; this route takes {wanted}", where="request")


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    reason = "does not take " + request.method if status == 405 else "is not a route of this API"
    problem = error_answer(InvalidInput(f"{request.url.path[:200]} {reason}", where="request"), "")
    problem.status_code = status
    if isinstance(error, HTTPException) and error.headers:
        problem.headers.update(error.headers)  # which methods there are, for a 405
    return problem


async def _body(request: Request, kind: type[_M]) -> _M:
    """Return the request's body as a message; raises InvalidInput, also for a body beyond MAX_BODY bytes."""
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > messages.MAX_BODY:
                raise InvalidInput(f"the message is larger than {messages.MAX_BODY} bytes", where="request")
    except ClientDisconnect as error:
        raise InvalidInput("the message ended early", where="request") from error
    return messages.decode(bytes(data), kind)


def _query(request: Request, kind: type[_M]) -> _M:
    """Return the request's query as a message; raises InvalidInput, also for a name that comes twice."""
    try:
        pairs = parse_qsl(request.url.query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise InvalidInput("the query is not UTF-8, or too long", where="query") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        raise InvalidInput("a name comes twice", where="query")
    return messages.convert(values, kind)


async def _save(request: Request, folder: Path) -> Path:
    """Write the request's body to a new file in *folder* and return its path; nothing is left on an error."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="pack-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_PACK:
                    raise InvalidInput(f"the pack is larger than {MAX_PACK} bytes", where="request")
                await anyio.to_thread.run_sync(file.write, chunk)
    except BaseException as error:
        os.unlink(name)  # noqa: PTH108 - anyio's path would be cancelled with us
        if isinstance(error, ClientDisconnect):
            raise InvalidInput("the pack ended early", where="request") from error
        if isinstance(error, OSError):
            raise Failed(f"the pack could not be kept: {error.strerror}", hint="stelae gc frees space") from error
        raise
    return Path(name)
