"""A WebSocket (RFC 6455) that must not break, although the release that holds its other end is replaced.

Only what an echo of short texts needs: no extensions, no fragments.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from dataclasses import dataclass

from stelae.domain.units import SECOND, Duration
from stelae.testing.load.background import Background
from stelae.testing.load.http import Connection, CutShort, loopback, request

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_FINAL = 0x80
_MASKED = 0x80
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_NORMAL = (1000).to_bytes(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoResult:
    """How an echo went. ``problem`` is empty when every text came back until it was stopped."""

    echoed: int
    took: Duration
    version: str
    problem: str


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Return one masked frame, as a client sends it; *payload* has less than 64 KiB."""
    if len(payload) < 126:
        length = bytes([_MASKED | len(payload)])
    else:
        length = bytes([_MASKED | 126]) + len(payload).to_bytes(2)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([_FINAL | opcode]) + length + mask + masked


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next frame's opcode and payload; raises CutShort when it does not come whole."""
    try:
        first, second = await reader.readexactly(2)
        if not first & _FINAL or second & _MASKED or second == 127:
            raise CutShort("a frame that is in parts, masked, or too long")
        length = int.from_bytes(await reader.readexactly(2)) if second == 126 else second
        return first & 0x0F, await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise CutShort("closed without a close frame") from error


class Echo(Background[EchoResult]):
    """Sends a text every *interval* seconds to the guestbook's ``/ws``, and expects each back within *timeout*.

    ``start`` returns after the first echo; ``stop`` closes in the orderly way. Raises InvalidInput when
    *address* is not of the loopback.
    """

    def __init__(
        self, address: str, port: int, *, host: str, path: str = "/ws", interval: float = 0.1, timeout: float = 5
    ) -> None:
        super().__init__(f"echo on port {port}")
        self._address, self._port, self._host, self._path = loopback(address), port, host, path
        self._interval, self._timeout = interval, timeout
        self._echoed = 0
        self._version = ""

    async def _main(self) -> EchoResult:
        begun, problem = time.monotonic(), ""
        try:
            await self._talk()
        except TimeoutError:
            problem = f"no echo within {self._timeout:g} s"
        except (OSError, CutShort) as error:
            problem = str(error)
        took = round((time.monotonic() - begun) * SECOND)
        return EchoResult(echoed=self._echoed, took=took, version=self._version, problem=problem)

    async def _talk(self) -> None:
        connection = await Connection.open(self._address, self._port)
        try:
            async with asyncio.timeout(self._timeout):
                await self._upgrade(connection)
            while not self._stopped.is_set():
                text = f"echo {self._echoed}".encode()
                connection.writer.write(frame(_TEXT, text, os.urandom(4)))
                async with asyncio.timeout(self._timeout):
                    await self._expect(connection, _TEXT, text)
                self._echoed += 1
                self._ready.set()
                await self._pause()
            connection.writer.write(frame(_CLOSE, _NORMAL, os.urandom(4)))
            async with asyncio.timeout(self._timeout):
                await self._expect(connection, _CLOSE, _NORMAL)
        finally:
            connection.close()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._stopped.wait()
        except TimeoutError:
            return

    async def _upgrade(self, connection: Connection) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {
            "Connection": "Upgrade", "Upgrade": "websocket",
            "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13",
        }  # fmt: skip
        head = await connection.ask(request("GET", self._path, self._host, keep=True, fields=fields))
        accept = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
        if head.status != 101 or head.fields.get("sec-websocket-accept") != accept:
            raise CutShort(f"no WebSocket: answered {head.status}")
        self._version = head.fields.get("x-version", "")

    async def _expect(self, connection: Connection, wanted: int, payload: bytes) -> None:
        while True:
            opcode, got = await read_frame(connection.reader)
            if opcode == _PING:
                connection.writer.write(frame(_PONG, got, os.urandom(4)))
            elif opcode == wanted and got == payload:
                return
            elif opcode == _CLOSE:
                raise CutShort(f"closed by the other end with code {int.from_bytes(got[:2])}")
            elif opcode != _PONG:
                raise CutShort(f"another text came back: {got[:80]!r}")
