"""Serves the API on the installation's Unix socket, bound here so that its mode and group are ours."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import uvicorn

from stelae.controller.api import application, at_once
from stelae.controller.contract import Service
from stelae.controller.peer import PeerProtocol
from stelae.domain.errors import Conflict
from stelae.system.installation import Installation

BACKLOG = 128
GRACE = 1
"""How long open requests may go on when the controller ends, in seconds."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (signals are the daemon's business) that says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets)
        self.ready()


async def serve(
    service: Service, installation: Installation, ready: Callable[[], None],
    settled: Callable[[], Awaitable[None]] = at_once,
) -> None:  # fmt: skip
    """Answer on the installation's socket until cancelled; *ready* is called when the first request can come, and
    *settled* as ``application`` says.

    Raises Conflict when another controller answers there. The socket's file is gone afterwards.
    """
    installation.cache.mkdir(parents=True, exist_ok=True)
    with listening(installation.socket, installation.group) as listener:
        app = application(service, installation.cache, settled)
        config = uvicorn.Config(
            app, http=PeerProtocol, ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, timeout_graceful_shutdown=GRACE, timeout_keep_alive=60,
        )  # fmt: skip
        server = _Server(config, ready)
        ended = anyio.Event()

        async def run() -> None:
            try:
                with anyio.CancelScope(shield=True):
                    await server.serve(sockets=[listener])
            finally:
                ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                await ended.wait()
            finally:
                app.state.streams.end()
                server.should_exit = True


@contextlib.contextmanager
def listening(path: Path, group: str) -> Iterator[socket.socket]:
    """Bind *path* with mode 0660 for *group* (0600 when there is no such group), and take it away at the end.

    Raises Conflict when somebody answers there; a file that a killed controller left is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_second(path)
    path.unlink(missing_ok=True)
    listener, bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), None
    try:
        # The umask makes the file private from its first moment; the group is let in when it owns it.
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        with contextlib.suppress(KeyError):
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        bound = path.stat().st_ino
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == bound:  # not that of a controller that took over
                path.unlink()


def refuse_second(path: Path) -> None:
    """Raise Conflict when a controller listens at *path*, whether or not it is awake."""
    if _answers(path):
        raise Conflict(f"a controller already answers at {path}", hint="stop it: stelae controller stop")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True
