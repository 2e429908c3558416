"""One HTTP request to somebody who is not trusted: a time for all of it, a limit of its size, and no redirects."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from stelae import __version__

LARGEST = 256 * 1024
"""Bytes of an answer that are read; a longer one is none."""


class NoAnswer(Exception):
    """Nothing came that can be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    body: bytes

    @property
    def fine(self) -> bool:
        """True for a status of 2xx."""
        return 200 <= self.status < 300


def ask(url: str, body: bytes, *, kind: str, seconds: float) -> Reply:
    """POST *body*, of content type *kind*, to *url* and return what came within *seconds*, all in all. Raises
    NoAnswer when nothing, too much or a redirect came."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"content-type": kind, "accept": "application/json", "user-agent": f"stelae/{__version__}"}
    late = threading.Event()
    try:
        connection = _connection(parts.scheme, parts.hostname or "", parts.port, seconds)
        timer = threading.Timer(seconds, _cut_off, (connection, late))
        timer.start()
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            content = response.read(LARGEST + 1)
        finally:
            timer.cancel()
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise NoAnswer(f"no answer within {seconds:g} s") from error
        raise NoAnswer(str(error) or type(error).__name__) from error
    if late.is_set():
        raise NoAnswer(f"no answer within {seconds:g} s")
    if len(content) > LARGEST:
        raise NoAnswer(f"an answer of more than {LARGEST // 1024} KiB")
    if 300 <= response.status < 400:
        raise NoAnswer(f"it answered {response.status}: a redirect is not followed")
    return Reply(status=response.status, body=content)


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=seconds)


def _cut_off(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End an exchange that goes on, byte by byte, when its time is over."""
    late.set()
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
