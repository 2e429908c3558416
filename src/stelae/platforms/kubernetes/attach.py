"""The terminal of a pod: its container's input and output over a WebSocket.

Format: the subprotocol ``v5.channel.k8s.io`` of Kubernetes' remotecommand: the first byte of a message is its channel
(0 input, 1 output, 2 errors, 3 how it ended, 4 the window as ``{"Width": …, "Height": …}``); 255 and the number of a
channel say that nothing more comes on it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

import httpx2
from httpx2.websockets import AsyncWebSocketSession, HTTPXWSException

from stelae.domain.errors import Failed, StelaeError, Unreachable

PROTOCOL: Final = "v5.channel.k8s.io"
_STREAMS: Final = {1: "stdout", 2: "stderr"}
_INPUT, _ENDED, _WINDOW, _CLOSE = 0, 3, 4, 255
_PACKET = 32 * 1024
_HELD = 64  # messages that were not read yet: then nothing more is taken from the server

_LOST = (HTTPXWSException, httpx2.HTTPError, OSError)


class PodTerminal:
    """Implements ``stelae.platforms.port.Terminal``."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(_HELD)
        self._session: AsyncWebSocketSession | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, connecting: AbstractAsyncContextManager[AsyncWebSocketSession], what: str) -> None:
        """Attach; raises Failed where nothing runs, Unreachable."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve(connecting, opened, what))
        try:
            await opened
        except BaseException:  # who gives up waiting holds no connection
            self._task.cancel()
            raise

    async def _serve(
        self, connecting: AbstractAsyncContextManager[AsyncWebSocketSession], opened: asyncio.Future[None], what: str
    ) -> None:
        """Hold the connection: the library wants it opened and closed by one task."""
        try:
            async with connecting as session:
                self._session = session
                opened.set_result(None)
                await self._listen(session)
        except BaseExceptionGroup as errors:  # the library's own tasks end in one
            if errors.split(_LOST)[1] is not None:
                raise
        except _LOST as error:
            if not opened.done():
                opened.set_exception(_refused(error, what))
        finally:
            self._session = None
            if not opened.done():
                opened.cancel()
            if self._said.full():
                self._said.get_nowait()
            self._said.put_nowait(None)

    async def _listen(self, session: AsyncWebSocketSession) -> None:
        with suppress(*_LOST):
            while True:
                message = await session.receive_bytes()
                if message[:1] == bytes([_ENDED]):
                    return
                if message[0] in _STREAMS and len(message) > 1:
                    await self._said.put((_STREAMS[message[0]], bytes(message[1:])))

    async def read(self) -> tuple[str, bytes] | None:
        """See ``Terminal.read``."""
        said = await self._said.get()
        if said is None:
            self._said.put_nowait(None)
        return said

    async def write(self, data: bytes) -> None:
        """See ``Terminal.write``."""
        for start in range(0, len(data), _PACKET):
            await self._send(bytes([_INPUT]) + data[start : start + _PACKET])

    async def end(self) -> None:
        """See ``Terminal.end``."""
        await self._send(bytes([_CLOSE, _INPUT]))

    async def resize(self, rows: int, columns: int) -> None:
        """See ``Terminal.resize``."""
        await self._send(bytes([_WINDOW]) + json.dumps({"Width": columns, "Height": rows}).encode())

    def close(self) -> None:
        """See ``Terminal.close``."""
        if self._task is not None:
            self._task.cancel()

    async def _send(self, message: bytes) -> None:
        if self._session is not None:
            with suppress(*_LOST):
                await self._session.send_bytes(message)


def _refused(error: Exception, what: str) -> StelaeError:
    answer: Any = getattr(error, "response", None)
    if answer is None:
        return Unreachable(f"{what}: {str(error) or type(error).__name__}")
    return Failed(f"{what}: the answer was HTTP {answer.status_code}")
