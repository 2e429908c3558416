"""The controller's API: HTTP over its Unix socket. Routes check what comes in and call the use cases.

Every answer is JSON. An error is ``{"error": {"kind", "message", "where", "hint", "details", "exit"}}`` with a
status by kind (invalid 400, refused 403, conflict 409, failed 422, unreachable 503). What takes long answers with
a stream, one JSON object a line: ``{"progress": ...}``, and last ``{"result": ...}`` or ``{"error": ...}``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from stelae.controller import messages
from stelae.controller.answers import Lines, OpenStreams, actor, answer, error_answer
from stelae.controller.contract import Json, Service
from stelae.domain.errors import Failed, InvalidInput

MAX_PACK = 1 << 30
"""The largest git pack that is taken, in bytes."""

_M = TypeVar("_M", bound=messages.Message)
_Call = Callable[[Request], Awaitable[Json]]
_Open = Callable[[Request], Awaitable[Callable[[], AsyncIterator[Json]]]]


def application(service: Service, temporary: Path) -> Starlette:
    """Return the API over *service*. Packs wait as files in the folder *temporary* until they are taken.

    ``state.streams.end()`` ends its open streams.
    """
    routes = [
        *_machine_routes(service),
        *_source_routes(service, temporary),
        *_environment_routes(service),
        *_deployment_routes(service),
        *_record_routes(service),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route})
    app.state.streams = OpenStreams()
    return app


def _machine_routes(service: Service) -> list[Route]:
    async def ping(request: Request) -> Json:
        _query(request, messages.Nothing)
        return await service.ping()

    async def down(request: Request) -> Json:
        message = await _body(request, messages.App)
        return await service.down(actor(request), message.app)

    async def start(request: Request) -> Json:
        message = await _body(request, messages.App)
        return await service.start(actor(request), message.app)

    async def gc(request: Request) -> Json:
        message = await _body(request, messages.Collect)
        return await service.gc(actor(request), message.dry_run)

    return [
        _get("/v1/ping", ping),
        _post("/v1/down", down),
        _post("/v1/start", start),
        _post("/v1/gc", gc),
    ]


def _source_routes(service: Service, temporary: Path) -> list[Route]:
    async def missing(request: Request) -> Json:
        message = await _body(request, messages.Missing)
        return await service.missing(message.repository, message.objects)

    async def receive(request: Request) -> Json:
        query = _query(request, messages.RepositoryQuery)
        pack = await _save(request, temporary)
        try:
            return await service.receive(actor(request), query.repository, pack)
        finally:
            pack.unlink(missing_ok=True)

    async def build(request: Request) -> Callable[[], AsyncIterator[Json]]:
        message = await _body(request, messages.Build)
        return partial(service.build, actor(request), message.plain())

    async def lock(request: Request) -> Callable[[], AsyncIterator[Json]]:
        message = await _body(request, messages.Lock)
        return partial(service.lock, actor(request), message.plain())

    return [
        _post("/v1/sources/missing", missing),
        _post("/v1/sources", receive),
        _stream("/v1/builds", "POST", build),
        _stream("/v1/locks", "POST", lock),
    ]


def _environment_routes(service: Service) -> list[Route]:
    async def apply(request: Request) -> Json:
        message = await _body(request, messages.Apply)
        return await service.apply(actor(request), message.plain())

    async def environments(request: Request) -> Json:
        return await service.environments(_query(request, messages.AppQuery).app)

    async def scale(request: Request) -> Json:
        message = await _body(request, messages.Scale)
        return await service.scale(actor(request), message.plain())

    async def status(request: Request) -> Json:
        return await service.status(_query(request, messages.EnvironmentQuery).environment)

    async def logs(request: Request) -> Callable[[], AsyncIterator[Json]]:
        query = _query(request, messages.LogsQuery)
        return partial(service.logs, query.environment, query.instance, query.release, query.process, query.follow)

    return [
        _post("/v1/environments/apply", apply),
        _get("/v1/environments", environments),
        _post("/v1/scales", scale),
        _get("/v1/status", status),
        _stream("/v1/logs", "GET", logs),
    ]


def _deployment_routes(service: Service) -> list[Route]:
    async def deploy(request: Request) -> Json:
        message = await _body(request, messages.Deploy)
        if message.image and message.release:
            raise InvalidInput("give an image or a release, not both", where="request")
        return await service.deploy(actor(request), message.plain())

    async def rollback(request: Request) -> Json:
        message = await _body(request, messages.Rollback)
        return await service.rollback(actor(request), message.plain())

    async def abort(request: Request) -> Json:
        message = await _body(request, messages.Abort)
        return await service.abort(actor(request), message.plain())

    async def deployment(request: Request) -> Json:
        return await service.deployment(_deployment_id(request))

    async def watch(request: Request) -> Callable[[], AsyncIterator[Json]]:
        return partial(service.watch, _deployment_id(request))

    return [
        _post("/v1/deployments", deploy),
        _get("/v1/deployments/{id}", deployment),
        _stream("/v1/deployments/{id}/watch", "GET", watch),
        _post("/v1/rollbacks", rollback),
        _post("/v1/aborts", abort),
    ]


def _record_routes(service: Service) -> list[Route]:
    async def history(request: Request) -> Json:
        query = _query(request, messages.HistoryQuery)
        return await service.history(query.environment, query.limit, query.everything)

    async def show(request: Request) -> Json:
        return await service.show(_query(request, messages.ShowQuery).ref)

    async def state(request: Request) -> Json:
        query = _query(request, messages.StateQuery)
        return await service.state(query.at, query.environment)

    async def verify(request: Request) -> Json:
        await _body(request, messages.Nothing)
        return await service.verify_ledger()

    return [
        _get("/v1/history", history),
        _get("/v1/show", show),
        _get("/v1/state", state),
        _post("/v1/verify-ledger", verify),
    ]


def _get(path: str, call: _Call) -> Route:
    return Route(path, partial(_answered, call), methods=["GET"])


def _post(path: str, call: _Call) -> Route:
    return Route(path, partial(_answered, call), methods=["POST"])


def _stream(path: str, method: str, open_stream: _Open) -> Route:
    return Route(path, partial(_streamed, open_stream), methods=[method])


async def _answered(call: _Call, request: Request) -> Response:
    """The outermost frame of a route: what is raised inside becomes a typed answer."""
    try:
        return answer(await call(request))
    except Exception as error:  # noqa: BLE001 - the outermost frame of the API
        return error_answer(error, request.url.path)


async def _streamed(open_stream: _Open, request: Request) -> Response:
    try:
        return Lines(await open_stream(request), request.url.path)
    except Exception as error:  # noqa: BLE001 - the outermost frame of the API
        return error_answer(error, request.url.path)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    reason = "does not take " + request.method if status == 405 else "is not a route of this API"
    problem = error_answer(InvalidInput(f"{request.url.path[:200]} {reason}", where="request"), "")
    problem.status_code = status
    return problem


async def _body(request: Request, kind: type[_M]) -> _M:
    """Return the request's body as a message; raises InvalidInput, also for a body beyond MAX_BODY bytes."""
    _query(request, messages.Nothing)
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
    pairs = request.query_params.multi_items()
    values = dict(pairs)
    if len(values) != len(pairs):
        raise InvalidInput("a name comes twice", where="query")
    return messages.convert(values, kind)


def _deployment_id(request: Request) -> str:
    _query(request, messages.Nothing)
    return messages.convert({"id": request.path_params["id"]}, messages.DeploymentPath).id


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
