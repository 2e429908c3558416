"""The client of the controller's API: the standard library only, so that the command line starts quickly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping

from stelae.controller.wire import BrokenAnswer, Connection
from stelae.domain.errors import BY_KIND, Failed, StelaeError, Unreachable

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from stelae.controller.wire import Readable

Json: TypeAlias = "dict[str, Any]"
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 120.0
RETRY_AFTER = 0.2
_SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without its final zero


class ConnectionLost(Unreachable):
    """The connection ended before the answer was whole: whether the request was carried out is not known."""


class Client:
    """Asks the controller behind the Unix socket *path*. Errors of the API come back as the StelaeError they were."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
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
            import time

            time.sleep(RETRY_AFTER)
            return self._ask("POST", route, data)

    def upload(self, route: str, body: Readable, **query: object) -> Json:
        """Send all that *body* gives as the body of POST *route*; what reading it raises is raised here."""
        return self._ask("POST", _target(route, query), body)

    def follow(
        self, method: str, route: str, body: Mapping[str, object] | None, progress: Callable[[Json], None],
        **query: object,
    ) -> Json:  # fmt: skip
        """Read a stream: *progress* is called with each progress object, the result is returned. Raises
        ConnectionLost when the stream breaks off before its result.
        """
        data = json.dumps(body).encode() if body is not None else None
        connection = self._send(method, _target(route, query), data)
        try:
            connection.patience(None)
            return heard(connection, progress)
        finally:
            connection.close()

    def talk(self, route: str, **query: object) -> Connection:
        """Begin an exchange with POST *route* and return its connection: ``say`` sends lines of the body, and
        ``heard`` gives those of the answer. The caller closes it. Raises the answer's error."""
        return self._opened(
            lambda connection: connection.converse(
                "POST", _target(route, query), {"content-type": "application/x-ndjson"}
            )
        )

    def _ask(self, method: str, target: str, data: bytes | Readable | None) -> Json:
        connection = self._send(method, target, data)
        try:
            return _parse(connection.read())
        except (OSError, BrokenAnswer) as error:
            raise _lost() from error
        finally:
            connection.close()

    def _send(self, method: str, target: str, data: bytes | Readable | None) -> Connection:
        """Send one request and return the connection with its open answer; raises the answer's error."""
        kind = "application/json" if isinstance(data, bytes | None) else "application/octet-stream"
        return self._opened(lambda connection: connection.ask(method, target, {"content-type": kind}, data))

    def _opened(self, ask: Callable[[Connection], None]) -> Connection:
        connection = self._connect()
        try:
            connection.patience(ANSWER_TIMEOUT)
            ask(connection)
            if connection.status >= 300:
                raise _error(_parse(connection.read()))
        except (OSError, BrokenAnswer) as error:
            connection.close()
            raise _lost() from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> Connection:
        if len(os.fspath(self.path)) > _SOCKET_PATH_LIMIT:
            raise Unreachable(f"the socket's path is too long: {self.path}")
        try:
            return Connection(self.path, CONNECT_TIMEOUT)
        except PermissionError as error:
            raise Unreachable(
                f"you may not talk to the controller at {self.path}",
                hint="become root, or have root add you to the group stelae and log in again",
            ) from error
        except OSError as error:
            raise Unreachable(f"no controller answers at {self.path}", hint="start it: stelae up") from error


def heard(connection: Connection, progress: Callable[[Json], None]) -> Json:
    """Read the open stream of *connection* to its end; as ``Client.follow``."""
    while True:
        message = _next(connection)
        if "error" in message:
            raise _error(message)
        if "result" in message:
            return dict(message["result"])
        progress(message.get("progress", {}))


def _target(route: str, query: Mapping[str, object]) -> str:
    if not query:
        return route
    from urllib.parse import urlencode

    values = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
    return f"{route}?{urlencode(values)}"


def _next(connection: Connection) -> Json:
    """Return the next object of a stream; raises ConnectionLost when it breaks off."""
    try:
        return _parse(connection.readline())
    except (OSError, BrokenAnswer) as error:
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
