"""The client of the controller's API: the standard library only, so that the command line starts quickly."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from stelae.domain.errors import BY_KIND, Failed, StelaeError, Unreachable

Json = dict[str, Any]
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 120.0
RETRY_AFTER = 0.2
_SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without its final zero


class ConnectionLost(Unreachable):
    """The connection ended before the answer was whole: whether the request was carried out is not known."""


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("stelae")
        self.path = path

    def connect(self) -> None:
        """Connect, or raise OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_TIMEOUT)
        self.sock.connect(str(self.path))


class Client:
    """Asks the controller behind the Unix socket *path*. Errors of the API come back as the StelaeError they were."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, route: str, **query: object) -> Json:
        """Return the answer of GET *route*."""
        return self._ask("GET", _target(route, query), None)

    def post(self, route: str, body: Mapping[str, object] | None = None, *, again: bool = False) -> Json:
        """Return the answer of POST *route*. With *again* it is sent a second time when the connection is lost:
        for requests that carry an idempotency key."""
        data = json.dumps(body or {}).encode()
        try:
            return self._ask("POST", route, data)
        except ConnectionLost:
            if not again:
                raise
            time.sleep(RETRY_AFTER)
            return self._ask("POST", route, data)

    def upload(self, route: str, file: Path, **query: object) -> Json:
        """Send *file* as the body of POST *route*."""
        with file.open("rb") as body:
            return self._ask("POST", _target(route, query), body, size=file.stat().st_size)

    def follow(
        self, method: str, route: str, body: Mapping[str, object] | None, progress: Callable[[Json], None],
        **query: object,
    ) -> Json:  # fmt: skip
        """Read a stream: *progress* is called with each progress object, the result is returned. Raises
        ConnectionLost when the stream breaks off before its result.
        """
        data = json.dumps(body).encode() if body is not None else None
        connection, response = self._send(method, _target(route, query), data)
        try:
            connection.sock.settimeout(None)
            while True:
                message = _next(response)
                if "error" in message:
                    raise _error(message)
                if "result" in message:
                    return dict(message["result"])
                progress(message.get("progress", {}))
        finally:
            connection.close()

    def _ask(self, method: str, target: str, data: Any, *, size: int | None = None) -> Json:
        connection, response = self._send(method, target, data, size)
        try:
            return _parse(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise _lost() from error
        finally:
            connection.close()

    def _send(
        self, method: str, target: str, data: Any, size: int | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send one request and return the open answer; raises the answer's error."""
        connection = self._connect()
        headers = {"content-type": "application/json"}
        if size is not None:
            headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        try:
            connection.sock.settimeout(ANSWER_TIMEOUT)
            with contextlib.suppress(BrokenPipeError):  # refused before the body's end: the answer says why
                connection.request(method, target, data, headers)
            response = connection.getresponse()
            if response.status >= 300:
                raise _error(_parse(response.read()))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _lost() from error
        except BaseException:
            connection.close()
            raise
        return connection, response

    def _connect(self) -> _UnixConnection:
        if len(str(self.path)) > _SOCKET_PATH_LIMIT:
            raise Unreachable(f"the socket's path is too long: {self.path}")
        connection = _UnixConnection(self.path)
        try:
            connection.connect()
        except PermissionError as error:
            connection.close()
            raise Unreachable(
                f"you may not talk to the controller at {self.path}",
                hint="become root, or have root add you to the group stelae and log in again",
            ) from error
        except OSError as error:
            connection.close()
            raise Unreachable(f"no controller answers at {self.path}", hint="start it: stelae up") from error
        return connection


def _target(route: str, query: Mapping[str, object]) -> str:
    values = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
    return f"{route}?{urlencode(values)}" if values else route


def _next(response: http.client.HTTPResponse) -> Json:
    """Return the next object of a stream; raises ConnectionLost when it breaks off."""
    try:
        return _parse(response.readline())
    except (OSError, http.client.HTTPException) as error:
        raise _lost() from error


def _parse(data: bytes) -> Json:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise _lost() from error
    if not isinstance(value, dict):
        raise Failed("the controller's answer is not what this version expects")
    return value


def _error(message: Json) -> StelaeError:
    """Return the StelaeError that an answer's ``error`` stands for."""
    error = message.get("error")
    if not isinstance(error, dict):
        return Failed("the controller's answer is not what this version expects")
    kind = BY_KIND.get(str(error.get("kind")), StelaeError)
    return kind(
        str(error.get("message", "")),
        where=str(error.get("where", "")),
        hint=str(error.get("hint", "")),
        details=tuple(str(line) for line in error.get("details", ())),
    )


def _lost() -> ConnectionLost:
    return ConnectionLost(
        "the connection to the controller was lost", hint="see what happened: stelae status · stelae history"
    )
