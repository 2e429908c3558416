"""The terminal of a debug session: conmon's attach socket, and the size of its window by conmon's control FIFO.

The socket (``attach`` in the bundle) is of the type SOCK_SEQPACKET. A packet from conmon is one byte that says where
it comes from (2 standard output, 3 standard error) and what was written; a packet to it is what is typed. With
``--terminal`` the session has a pseudo-terminal, else three pipes; shutting the socket for writing ends its input.
The order ``1 ROWS COLUMNS`` on the control FIFO sets the size of the window (conmon's ``ctrl.c``, ``conn_sock.c``).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.platforms.local.place import Place

_PACKET = 8192
_LARGEST = 1 << 16
_STREAMS = {2: "stdout", 3: "stderr"}
_GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class AttachedTerminal:
    """Implements ``stelae.platforms.port.Terminal`` over a *connection* to the conmon at *place*."""

    def __init__(self, place: Place, connection: socket.socket) -> None:
        self._place = place
        self._connection = connection
        connection.setblocking(False)

    async def read(self) -> tuple[str, bytes] | None:
        """See ``Terminal.read``."""
        with suppress(*_GONE):
            data = await asyncio.get_running_loop().sock_recv(self._connection, _LARGEST)
            if data:
                return _STREAMS.get(data[0], "stdout"), data[1:]
        return None

    async def write(self, data: bytes) -> None:
        """See ``Terminal.write``."""
        with suppress(*_GONE):
            for start in range(0, len(data), _PACKET):
                await asyncio.get_running_loop().sock_sendall(self._connection, data[start : start + _PACKET])

    async def end(self) -> None:
        """See ``Terminal.end``."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    async def resize(self, rows: int, columns: int) -> None:
        """See ``Terminal.resize``."""
        try:
            fifo = os.open(self._place.control, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # it has ended
            return
        try:
            os.write(fifo, f"1 {rows} {columns}\n".encode())
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EPIPE):
                raise
        finally:
            os.close(fifo)

    def close(self) -> None:
        """See ``Terminal.close``."""
        self._connection.close()


def attach(place: Place) -> socket.socket:
    """Return a connection to the terminal of the session at *place*; raises Failed when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # the path may be longer than an address of a socket can be
        folder = os.open(place.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(str(Path(f"/proc/self/fd/{folder}/attach")))
        finally:
            os.close(folder)
    except OSError as error:
        connection.close()
        raise Failed(f"{place.instance} cannot be talked to: {error.strerror}") from error
    return connection
