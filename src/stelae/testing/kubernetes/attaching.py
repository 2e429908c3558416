"""Attaching to a container over a WebSocket.

Format: the subprotocol ``v5.channel.k8s.io``: the first byte of a message is its channel (0 input, 1 output, 2
errors, 3 how it ended, as a ``Status``, 4 the size of the window); 255 and a channel close one.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, RejectConnection, Request

from stelae.testing.kubernetes.kubelet import Life

PROTOCOL: Final = "v5.channel.k8s.io"
_INPUT, _OUTPUT, _ENDED, _CLOSE = 0, 1, 3, 255


async def attach(
    life: Life | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes
) -> None:  # fmt: skip
    """Serve a connection whose first bytes are *raw*; refused where nothing runs."""
    socket = WSConnection(ConnectionType.SERVER)
    socket.receive_data(raw)
    request = next(socket.events())
    assert isinstance(request, Request), "whoever is here asked for a WebSocket"
    accepted = dict(request.extra_headers).get(b"accept", b"*/*")
    if b"*/*" not in accepted or life is None or not life.running:
        writer.write(socket.send(RejectConnection(status_code=406 if b"*/*" not in accepted else 500)))
        await writer.drain()
        return
    writer.write(socket.send(AcceptConnection(subprotocol=PROTOCOL)))
    await writer.drain()
    said = asyncio.ensure_future(_say(socket, life, writer))
    try:
        await _hear(socket, life, reader, writer)
    finally:
        said.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await said


async def _say(socket: WSConnection, life: Life, writer: asyncio.StreamWriter) -> None:
    async for _, text in life.output.follow(len(life.output.lines)):
        writer.write(socket.send(BytesMessage(bytes([_OUTPUT]) + text.encode() + b"\n")))
        await writer.drain()
    status = {"metadata": {}, "status": "Success"}
    writer.write(socket.send(BytesMessage(bytes([_ENDED]) + json.dumps(status).encode())))
    writer.write(socket.send(CloseConnection(1000)))
    await writer.drain()
    writer.close()


async def _hear(
    socket: WSConnection, life: Life, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:  # fmt: skip
    rest = b""
    while data := await reader.read(65536):
        socket.receive_data(data)
        for event in socket.events():
            if isinstance(event, CloseConnection):
                return
            if isinstance(event, Ping):
                writer.write(socket.send(event.response()))
            if isinstance(event, BytesMessage) and event.data[:2] == bytes([_CLOSE, _INPUT]):
                life.output.type(None)
            elif isinstance(event, BytesMessage) and event.data[:1] == bytes([_INPUT]):
                *lines, rest = (rest + bytes(event.data[1:])).split(b"\n")
                for line in lines:
                    life.output.type(line.decode(errors="replace"))
