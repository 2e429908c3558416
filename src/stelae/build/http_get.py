"""Files by HTTP: connections that are kept open, one a thread, with retries, a size limit and proxies."""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from stelae.build.credentials import masked
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.images.content import CHUNK

SECONDS = 60
"""How long a server may be silent."""

TRIES = 4
PAUSE = 0.5
"""Seconds before the second try; twice as long before each further one."""

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_LATER = (408, 425, 429, 500, 502, 503, 504)
_BROKEN = (OSError, http.client.HTTPException)


class Missing(Failed):
    """The server says that it has no such file, or shows it to nobody without credentials (401, 403, 404)."""


class Getter:
    """Gets files for several threads at once; *headers* says which are sent to an address, *cafile* is a bundle of
    certificates besides the system's. A file is tried *tries* times, and a server may be silent for *seconds*."""

    def __init__(
        self, headers: Callable[[str], Mapping[str, str]] = lambda _: {}, *, cafile: Path | None = None,
        proxies: Mapping[str, str] | None = None, tries: int = TRIES, seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self._headers = headers
        self._cafile = cafile
        self._tries, self._seconds = tries, seconds
        self._reading = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._proxies = {**getproxies(), **(proxies or {})}
        self._mine = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close all connections; no other thread may be at work."""
        for connection in self._opened:
            connection.close()

    def get(self, url: str, start: Callable[[], Callable[[bytes], object]], limit: int) -> None:
        """Give the bytes at *url*, in pieces, to what *start* returns; each try starts anew.

        Raises Missing, Unreachable when the server does not answer or fails again and again, InvalidInput for more
        than *limit* bytes and for an address that is not HTTP.
        """
        pause = PAUSE
        for left in reversed(range(self._tries)):
            try:
                problem = self._once(url, start(), limit)
            except _BROKEN as error:
                self._forget(url)
                problem = str(error) or type(error).__name__
            if not problem:
                return
            if left:
                time.sleep(pause)
                pause *= 2
        raise Unreachable(
            f"the registry does not answer: {masked(problem)}", where=masked(url), hint="try again later"
        )

    def _once(self, url: str, write: Callable[[bytes], object], limit: int) -> str:
        """Return "" when all was written, else what a later try might not meet."""
        for _ in range(_MOST_REDIRECTS):
            response = self._ask(url)
            if response.status in _REDIRECTS:
                response.read()
                url = urljoin(url, response.getheader("Location", ""))
                continue
            if response.status == 200:
                self._copy(response, write, limit, url)
                return ""
            reason = f"{response.status} {response.reason}"
            self._forget(url)
            if response.status in _LATER:
                return reason
            raise Missing(f"the registry says {reason}", where=masked(url))
        return "too many redirections"

    def _ask(self, url: str) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("not an HTTP address", where=masked(url))
        proxied = parts.scheme == "http" and self._proxy(url)
        path = url if proxied else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": "stelae", "Accept": "*/*", **self._headers(url)}
        if proxied:
            headers |= _proxy_headers(proxied)
        fresh = self._key(url) not in self._connections
        connection = self._connection(url)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except _BROKEN:
            # A kept connection may have been closed by the server in the meantime: that is no try.
            self._forget(url)
            if fresh:
                raise
            connection = self._connection(url)
            connection.request("GET", path, headers=headers)
            return connection.getresponse()

    def _copy(
        self, response: http.client.HTTPResponse, write: Callable[[bytes], object], limit: int, url: str
    ) -> None:
        size = 0
        while data := response.read(CHUNK):
            size += len(data)
            if size > limit:
                self._forget(url)
                raise InvalidInput(f"the file is larger than {limit} bytes", where=masked(url))
            write(data)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)

    @property
    def _connections(self) -> dict[str, http.client.HTTPConnection]:
        if not hasattr(self._mine, "connections"):
            self._mine.connections = {}
        found: dict[str, http.client.HTTPConnection] = self._mine.connections
        return found

    def _connection(self, url: str) -> http.client.HTTPConnection:
        key = self._key(url)
        if key not in self._connections:
            self._connections[key] = self._open(url)
            self._opened.append(self._connections[key])
        return self._connections[key]

    def _open(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        assert parts.hostname is not None
        proxy = self._proxy(url)
        at = urlsplit(proxy) if proxy else parts
        if parts.scheme == "http":
            return http.client.HTTPConnection(at.hostname or "", at.port or 80, timeout=self._seconds)
        port = at.port or (443 if at.scheme == "https" else 80)
        connection = http.client.HTTPSConnection(
            at.hostname or "", port, timeout=self._seconds, context=self._context()
        )
        if proxy:
            connection.set_tunnel(parts.hostname, parts.port or 443, _proxy_headers(proxy))
        return connection

    def _context(self) -> ssl.SSLContext:
        """Return what is trusted, which takes a while to read."""
        with self._reading:
            if self._tls is None:
                self._tls = ssl.create_default_context()
                if self._cafile is not None:
                    self._tls.load_verify_locations(self._cafile)
            return self._tls

    def _proxy(self, url: str) -> str:
        parts = urlsplit(url)
        found = self._proxies.get(parts.scheme, "")
        return "" if not found or proxy_bypass(parts.hostname or "") else found

    def _forget(self, url: str) -> None:
        connection = self._connections.pop(self._key(url), None)
        if connection is not None:
            connection.close()

    @staticmethod
    def _key(url: str) -> str:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}"


def _proxy_headers(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
