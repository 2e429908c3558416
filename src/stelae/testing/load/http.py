"""A raw HTTP/1.1 client: nothing is retried and nothing is hidden, so that every failure is seen.

It only talks to this machine: a load generator that can be pointed at others is a weapon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from stelae.domain.errors import InvalidInput

LIMIT = 256 * 1024


class CutShort(Exception):
    """The other end closed the connection before the answer was whole, or sent what is not HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first part of an answer. The names of ``fields`` are in lower case."""

    status: int
    fields: Mapping[str, str]


def loopback(address: str) -> str:
    """Return *address* when it is an address of this machine's loopback; raises InvalidInput."""
    try:
        local = ip_address(address).is_loopback
    except ValueError:
        local = False
    if not local:
        raise InvalidInput("load is only sent to a loopback address", where=address, hint="use 127.0.0.1")
    return address


def request(
    method: str,
    path: str,
    host: str,
    *,
    body: bytes = b"",
    keep: bool = False,
    fields: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a request. With *keep* the connection may be used again."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if not keep:
        lines.append("Connection: close")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection; it carries one request at a time.

    Its methods raise OSError (refused, reset) and CutShort.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.used_at = 0.0
        self.reusable = False

    @classmethod
    async def open(cls, address: str, port: int) -> Self:
        """Connect to *port* of the loopback *address*."""
        return cls(*await asyncio.open_connection(loopback(address), port, limit=LIMIT))

    async def exchange(self, data: bytes) -> tuple[Head, bytes]:
        """Send the request *data*; return the whole answer."""
        head = await self.ask(data)
        return head, b"".join([part async for part in self.body(head)])

    async def ask(self, data: bytes) -> Head:
        """Send the request *data*; return the head of the answer."""
        self.reusable = False
        self.writer.write(data)
        await self.writer.drain()
        return await self._head()

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """Yield the body that follows *head*, as it comes."""
        if head.fields.get("transfer-encoding", "").lower() == "chunked":
            async for part in self._chunks():
                yield part
        elif "content-length" in head.fields:
            yield await self._exactly(_number(head.fields["content-length"], 10))
        elif head.status not in (204, 304):
            while part := await self.reader.read(LIMIT):
                yield part
            return
        self.reusable = head.fields.get("connection", "").lower() != "close"

    def usable(self) -> bool:
        """True when another request may be sent: the answer was whole and the other end has not closed."""
        return self.reusable and not self.reader.at_eof() and not self.writer.is_closing()

    def close(self) -> None:
        """Close at once."""
        self.writer.close()

    async def _head(self) -> Head:
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise CutShort(
                "closed in the middle of the head" if error.partial else "closed without an answer"
            ) from error
        except asyncio.LimitOverrunError as error:
            raise CutShort("the head of the answer is too long") from error
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1."):
            raise CutShort(f"not HTTP: {first[:80]!r}")
        pairs = (line.partition(":") for line in lines)
        return Head(
            status=_number(rest[:3], 10), fields={name.strip().lower(): value.strip() for name, _, value in pairs}
        )

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = _number((await self._until_line_end()).split(b";")[0].strip().decode("latin-1"), 16)
            part = await self._exactly(size)
            if await self._until_line_end() != b"\r\n":
                raise CutShort("a chunk without its end")
            if size == 0:
                return
            yield part

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise CutShort(f"closed after {len(error.partial)} of {size} bytes") from error

    async def _until_line_end(self) -> bytes:
        try:
            return await self.reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise CutShort("closed between two chunks") from error


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError as error:
        raise CutShort(f"not a number in the answer: {text[:20]!r}") from error
    if number < 0:
        raise CutShort(f"a negative number in the answer: {number}")
    return number
