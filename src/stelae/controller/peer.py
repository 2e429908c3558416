"""Who is at the other end of the Unix socket: the kernel's word (SO_PEERCRED), not the client's."""

from __future__ import annotations

import asyncio
import json
import pwd
import socket
import struct
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

_UCRED = struct.Struct("iII")


def peer_uid(connection: socket.socket) -> int:
    """Return the user id of the process that connected *connection* (unix(7), SO_PEERCRED)."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def actor_of(uid: int) -> str:
    """Return the name of user *uid*, ``uid:N`` when the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid:{uid}"


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with the peer's name as ``actor`` in the state of each request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read who connected; a connection that is gone already has no name and gets no answer."""
        stream = cast(asyncio.Transport, transport)  # nothing else connects
        super().connection_made(stream)
        connection = stream.get_extra_info("socket")
        try:
            self.app_state = {**self.app_state, "actor": actor_of(peer_uid(connection))}
        except OSError:
            stream.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP with a typed error like any other bad input."""
        error = {"kind": "invalid", "message": msg, "where": "request", "hint": "", "details": [], "exit": 2}
        body = json.dumps({"error": error}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
