"""The routes.

GET  /healthz         is this instance ready
GET  /                a page: the version and the last entries
GET  /slow?seconds=20 a download that takes that long; its last line is the digest of all before it
POST /entries         {"id", "text"} as JSON or as a form; answers how often this id was posted
GET  /entries         the last entries
GET  /counts          how often each id was posted
WS   /ws              an echo
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.page import render
from app.store import Entry, Store, StoreUnavailable
from app.version import VERSION

MAX_BODY = 16 * 1024
MAX_TEXT = 500
MAX_SECONDS = 600.0
LINES_PER_SECOND = 10
FORM = "application/x-www-form-urlencoded"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BadEntry(Exception):
    """What was posted is not an entry. The text says why."""


async def read_entry(request: Request) -> Entry:
    """Return the entry in the body of *request*; raises BadEntry."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise BadEntry(f"an entry has at most {MAX_BODY} bytes")
    try:
        if request.headers.get("content-type", "").startswith(FORM):
            fields = {name: values[-1] for name, values in parse_qs(body.decode(), max_num_fields=8).items()}
        else:
            fields = json.loads(body)
    except ValueError as error:
        raise BadEntry("the body is neither JSON nor a form") from error
    if not isinstance(fields, dict):
        raise BadEntry("the body is not an object")
    identity, text = fields.get("id"), fields.get("text", "")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise BadEntry("id: 1 to 64 letters, digits, dots, dashes or underscores")
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise BadEntry(f"text: at most {MAX_TEXT} characters")
    return Entry(identity, text)


async def slow_lines(seconds: float) -> AsyncIterator[bytes]:
    """Yield lines for *seconds*, and then a line with the digest of all of them."""
    digest = hashlib.sha256()
    total = max(1, round(seconds * LINES_PER_SECOND))
    for number in range(1, total + 1):
        line = f"line {number} of {total}, version {VERSION}\n".encode()
        digest.update(line)
        yield line
        await asyncio.sleep(seconds / total)
    yield f"end sha256:{digest.hexdigest()}\n".encode()


class Guestbook:
    """The request handlers, over a store."""

    def __init__(self, store: Store, instance: str) -> None:
        self._store = store
        self._instance = instance

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def home(self, request: Request) -> Response:
        try:
            entries = await self._store.recent()
        except StoreUnavailable:
            entries = None
        return HTMLResponse(render(version=VERSION, instance=self._instance, entries=entries))

    async def slow(self, request: Request) -> Response:
        try:
            seconds = float(request.query_params.get("seconds", "20"))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= MAX_SECONDS:
            return PlainTextResponse(f"seconds: 0 to {MAX_SECONDS:g}\n", status_code=400)
        return StreamingResponse(slow_lines(seconds), media_type="text/plain")

    async def add(self, request: Request) -> Response:
        try:
            entry = await read_entry(request)
            count = await self._store.add(entry)
        except BadEntry as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except StoreUnavailable as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        except ClientDisconnect:
            return Response(status_code=400)
        if request.headers.get("content-type", "").startswith(FORM):
            return RedirectResponse("/", status_code=303)
        return JSONResponse({"id": entry.id, "count": count}, status_code=201)

    async def entries(self, request: Request) -> Response:
        try:
            found = await self._store.recent()
        except StoreUnavailable as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        return JSONResponse({"entries": [{"id": entry.id, "text": entry.text} for entry in found]})

    async def counts(self, request: Request) -> Response:
        try:
            return JSONResponse({"counts": await self._store.counts()})
        except StoreUnavailable as error:
            return JSONResponse({"error": str(error)}, status_code=503)

    async def echo(self, socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)


def create_app(store: Store, instance: str) -> Starlette:
    """Return the application over *store*; *instance* is the name that the page shows."""
    book = Guestbook(store, instance)
    return Starlette(
        routes=[
            Route("/healthz", book.health),
            Route("/", book.home),
            Route("/slow", book.slow),
            Route("/entries", book.add, methods=["POST"]),
            Route("/entries", book.entries, methods=["GET"]),
            Route("/counts", book.counts),
            WebSocketRoute("/ws", book.echo),
        ]
    )
