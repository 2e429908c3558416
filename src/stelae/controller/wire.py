"""HTTP/1.1 over the controller's Unix socket, as the command line needs it: one request, one answer.

Python's own client takes longer to import than most answers take, because it knows so much more of HTTP. This one
knows what the controller's server sends (RFC 9112): a status, headers, and a body that is counted or in chunks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Protocol

    class Readable(Protocol):
        """What a body is read from."""

        def read(self, size: int, /) -> bytes:
            """Return the next bytes, at most *size*, b"" at the end."""
            ...


CHUNK = 1 << 16
MOST_HEADERS = 100
LONGEST_LINE = 1 << 16
"""Bytes of a line of the head of an answer, or of a chunk's."""


class BrokenAnswer(Exception):
    """The answer ended before it was whole, or is no HTTP."""


class Connection:
    """A connection to the server at *path* for one request. Its methods raise OSError as sockets do."""

    def __init__(self, path: str | os.PathLike[str], timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(os.fspath(path))
        except BaseException:
            self._socket.close()
            raise
        self._answer = self._socket.makefile("rb")
        self._left = b""
        self._body: Iterator[bytes] = iter(())
        self.status = 0

    def patience(self, seconds: float | None) -> None:
        """Wait so long for whatever comes next; None is for ever."""
        self._socket.settimeout(seconds)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | Readable | None) -> None:
        """Send a request and read the head of the answer; raises BrokenAnswer. A body of unknown size goes in chunks;
        when reading it fails the request is never whole."""
        lines = [
            f"{method} {target} HTTP/1.1",
            "host: stelae",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if isinstance(body, bytes):
            lines.append(f"content-length: {len(body)}")
        elif body is not None:
            lines.append("transfer-encoding: chunked")
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before the body's end: the answer says why
            if isinstance(body, bytes) or body is None:
                self._socket.sendall(head + (body or b""))
            else:
                self._socket.sendall(head)
                while data := body.read(CHUNK):
                    self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))
                self._socket.sendall(b"0\r\n\r\n")
        self._read_head()

    def converse(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Begin a request whose body comes while its answer is read (see ``say``), and read the head of the answer;
        raises BrokenAnswer."""
        lines = [f"{method} {target} HTTP/1.1", "host: stelae", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        self._read_head()

    def say(self, data: bytes) -> None:
        """Send the next part of the body of a request that was begun by ``converse``; b"" is its end. One thread may
        send while another one reads."""
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def _read_head(self) -> None:
        words = self._line().split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise BrokenAnswer("no HTTP")
        self.status = int(words[1])
        headers: dict[bytes, bytes] = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
            if len(headers) > MOST_HEADERS:
                raise BrokenAnswer("too many headers")
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._body = self._chunks()
        else:
            length = headers.get(b"content-length", b"")
            if not length.isdigit():
                raise BrokenAnswer("a body of no length")
            self._body = self._counted(int(length))

    def _line(self) -> bytes:
        line = self._answer.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise BrokenAnswer("it ended early")
        return line.rstrip(b"\r\n")

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            data = self._answer.read1(min(left, CHUNK))
            if not data:
                raise BrokenAnswer("it ended early")
            left -= len(data)
            yield data

    def _chunks(self) -> Iterator[bytes]:
        while True:
            try:
                size = int(self._line().partition(b";")[0], 16)
            except ValueError:
                raise BrokenAnswer("no size of a chunk") from None
            if size == 0:
                return
            yield from self._counted(size)
            self._line()

    def read(self) -> bytes:
        """Return the rest of the answer's body; raises BrokenAnswer when it is not whole."""
        found, self._left = self._left + b"".join(self._body), b""
        return found

    def readline(self) -> bytes:
        """Return the next line of the body, b"" at its end; raises BrokenAnswer when it breaks off."""
        parts = [self._left]
        while b"\n" not in parts[-1]:
            data = next(self._body, b"")
            if not data:
                break
            parts.append(data)
        line, found, self._left = b"".join(parts).partition(b"\n")
        return line + found

    def close(self) -> None:
        """End the connection."""
        self._answer.close()
        self._socket.close()
