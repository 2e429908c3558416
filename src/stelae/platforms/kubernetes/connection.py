"""The way to one API server: requests with retries, and streams of lines.

lightkube reads the kubeconfig, the certificates and the login. The requests themselves are plain JSON: its typed
objects would take a multiple of the memory, drop the fields that its version does not know, and its watch knows no
bookmarks.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import yaml
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from stelae.domain.errors import InvalidInput, StelaeError, Unreachable
from stelae.platforms.kubernetes import errors
from stelae.platforms.kubernetes.backoff import Backoff, Jitter, retry_after

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"

_ATTEMPT = 10.0  # seconds that one answer may take
_ALTOGETHER = 20.0  # seconds until a request that is tried again and again is given up
_LARGEST = 32 * 1024 * 1024  # bytes of one line of a stream
_WHOLE = 8 * _LARGEST  # and of one answer: the list of some ten thousand pods
_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000),
)  # a server that is gone without a word is noticed in 25 s, also by a watch on which nothing happens


def read(context: str, kubeconfig: Path) -> SingleConfig:
    """Return what the file *kubeconfig* says of *context* ("" for its current one); raises InvalidInput."""
    where = str(kubeconfig)
    try:
        found = KubeConfig.from_file(kubeconfig).get(context or None)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            str(error), where=where, hint="set STELAE_KUBECONFIG of the controller to a file that names it"
        ) from error
    except (KeyError, TypeError, AttributeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise InvalidInput(f"this is no kubeconfig: {error!r}", where=where) from error
    if found is None or not found.cluster.server.startswith(("https://", "http://")):
        raise InvalidInput("it names no server", where=where)
    return found


class Connection:
    """Requests to the server of *config*. *jitter*: see ``Backoff``. *renewed* gives what stands in the kubeconfig by
    now, which is asked for when the server does not take the login any more."""

    def __init__(
        self, config: SingleConfig, jitter: Jitter, renewed: Callable[[], SingleConfig] | None = None
    ) -> None:  # fmt: skip
        self._jitter = jitter
        self._renewed = renewed
        self._silent: list[Callable[[], None]] = []
        self.server = config.cluster.server.rstrip("/")
        try:
            user = config.user
            verify: Any = False
            if self.server.startswith("https://"):
                assert user is not None, "Kubernetes is never open to everybody"
                verify = client_adapter.verify_cluster(config.cluster, user, config.abs_file)
            auth = client_adapter.user_auth(user)
        except (ConfigError, OSError, ValueError) as error:
            raise InvalidInput(f"the kubeconfig's login cannot be used: {error}") from error
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=30)
        self._client = httpx2.AsyncClient(
            base_url=self.server,
            auth=auth,
            transport=httpx2.AsyncHTTPTransport(verify=verify, limits=limits, socket_options=_ALIVE),
            timeout=httpx2.Timeout(_ATTEMPT, pool=None),
            headers={"User-Agent": "stelae", "Accept": JSON},
            trust_env=False,
        )

    async def ask(
        self, method: str, path: str, what: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        content: str = JSON, accept: str = JSON, anywhere: bool = False,
    ) -> Any:  # fmt: skip
        """Return the decoded answer to one request; None where there is no such object (*anywhere*: or no such path).

        What the server asks to try later is tried later, and so is what got no answer, unless it is a POST, which
        may have happened. *what* says in an error what was tried. Raises Failed, Conflict and Unreachable.
        """
        sent = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": accept} | ({"Content-Type": content} if sent is not None else {})
        backoff, until = Backoff(self._jitter), asyncio.get_running_loop().time() + _ALTOGETHER
        while True:
            asked = 0.0
            try:
                request = self._client.build_request(method, path, params=params, content=sent, headers=headers)
                answer, found = await self._answer(request, what)
            except (httpx2.HTTPError, ConfigError, OSError) as error:
                problem: StelaeError = Unreachable(f"{what}: {self.server} does not answer: {_words(error)}")
                problem.__cause__ = error
                self._tell()
                certain = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
                again = not isinstance(error, ConfigError) and (certain or method != "POST")
            else:
                if answer.is_success:
                    return _decoded(found, what)
                if answer.status_code == 404 and (anywhere or errors.absent(found, path)):
                    return None
                problem = errors.of(answer.status_code, found, what)
                asked = retry_after(answer.headers.get("Retry-After"))
                again = (answer.status_code in errors.AGAIN or asked > 0) and (
                    method != "POST" or answer.status_code == 429
                )
            pause = backoff.pause(asked)
            if not again or asyncio.get_running_loop().time() + pause > until:
                raise problem
            await asyncio.sleep(pause)

    def silent(self, told: Callable[[], None]) -> None:
        """Have *told* called when a request of ``ask`` got no answer."""
        self._silent.append(told)

    def _tell(self) -> None:
        for told in self._silent:
            told()

    async def once(self, path: str, what: str, *, params: Mapping[str, str], accept: str = JSON) -> Any:
        """Return the decoded answer to one GET that is not tried again. Raises ``Ended``, Unreachable."""
        try:
            request = self._client.build_request("GET", path, params=params, headers={"Accept": accept})
            answer, found = await self._answer(request, what)
        except (httpx2.HTTPError, ConfigError, OSError) as error:
            raise Unreachable(f"{what}: {self.server} does not answer: {_words(error)}") from error
        if not answer.is_success:
            asked = retry_after(answer.headers.get("Retry-After"))
            raise Ended(answer.status_code, errors.words(answer.status_code, found), asked)
        return _decoded(found, what)

    async def _answer(self, request: httpx2.Request, what: str) -> tuple[httpx2.Response, bytes]:
        """Return an answer and its body; raises Unreachable for one without an end, and what httpx raises."""
        answer = await self._send(request)
        try:
            return answer, await _body(answer, what)
        finally:
            await answer.aclose()

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._client.send(request, stream=True)
        if answer.status_code == 401 and self._renewed is not None:
            with suppress(StelaeError, ConfigError, OSError, ValueError):  # it is as it was, then
                found = self._renewed()
                login = client_adapter.user_auth(found.user)
                if login is not None and found.cluster.server.rstrip("/") == self.server:  # it is no other server's
                    self._client.auth = login
        return answer

    @asynccontextmanager
    async def stream(
        self, path: str, what: str, *, params: Mapping[str, str], accept: str = JSON, silence: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream, and give its lines, without their ends, as they come; *silence* is the longest pause in
        seconds between them. Nothing is tried again. Raises ``Ended`` for a refusal, Unreachable; the lines raise
        ``Silent`` after such a pause."""
        timeout = httpx2.Timeout(_ATTEMPT, read=silence, pool=None)
        request = self._client.build_request("GET", path, params=params, headers={"Accept": accept}, timeout=timeout)
        try:
            answer = await self._send(request)
        except (httpx2.HTTPError, ConfigError, OSError) as error:
            raise Unreachable(f"{what}: {self.server} does not answer: {_words(error)}") from error
        try:
            if not answer.is_success:
                body = b""
                with suppress(httpx2.HTTPError, OSError):
                    body = await _body(answer, what)
                asked = retry_after(answer.headers.get("Retry-After"))
                raise Ended(answer.status_code, errors.words(answer.status_code, body), asked)
            yield _lines(answer, what)
        finally:
            with suppress(httpx2.HTTPError, OSError):
                await answer.aclose()

    def socket(self, path: str, params: Mapping[str, str], protocol: str) -> AbstractAsyncContextManager[Any]:
        """Return a WebSocket to *path*, to be entered."""
        url = self.server.replace("http", "ws", 1) + path
        return self._client.websocket(
            url, params=params, subprotocols=[protocol], timeout=_ATTEMPT, headers={"Accept": "*/*"}
        )  # fmt: skip

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


class Silent(Unreachable):
    """Nothing came of a stream for long. Nothing may have happened: a server sends bookmarks when it likes, and of a
    kind of which nothing changes some never do."""


class Ended(Exception):
    """A list or stream that the server refused, or ended, with *code*; *asked* are the seconds that we shall wait."""

    def __init__(self, code: int, said: str, asked: float = 0.0) -> None:
        super().__init__(said)
        self.code = code
        self.said = said
        self.asked = asked


async def _body(answer: httpx2.Response, what: str) -> bytes:
    found = bytearray()
    async for chunk in answer.aiter_bytes():
        found += chunk
        if len(found) > _WHOLE:
            raise Unreachable(f"{what}: the answer is longer than {_WHOLE} bytes")
    return bytes(found)


async def _lines(answer: httpx2.Response, what: str) -> AsyncIterator[bytes]:
    """Split by line feeds only: text may have other characters in it that Python takes for ends of lines."""
    rest: list[bytes] = []
    size = 0
    try:
        async for chunk in answer.aiter_bytes():
            *whole, last = chunk.split(b"\n")
            for line in whole:
                yield b"".join((*rest, line))
                rest, size = [], 0
            rest.append(last)
            size += len(last)
            if size > _LARGEST:
                raise Unreachable(f"{what}: a line is longer than {_LARGEST} bytes")
    except httpx2.ReadTimeout as error:
        raise Silent(f"{what}: nothing came any more") from error
    except (httpx2.HTTPError, OSError) as error:
        raise Unreachable(f"{what}: the connection broke: {_words(error)}") from error
    if any(rest):
        yield b"".join(rest)


def _decoded(body: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreachable(f"{what}: the answer is not JSON: {error}") from error


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
