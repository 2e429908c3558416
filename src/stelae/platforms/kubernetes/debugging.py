"""Debug sessions: the shell that they run, and the terminals by which a person talks to them.

An API server tells what a container writes from when one is attached, and keeps what it wrote before as lines. So a
shell waits for its person, and without a terminal all output is taken from the lines.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, StelaeError
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.objects import CONTAINER
from stelae.platforms.kubernetes.pods import has_begun, is_over
from stelae.platforms.port import Shell, Terminal

SHELL = ("sh", "-c", "read -r _; if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh")
"""A shell that begins when it is told to: what it writes before somebody is attached to it would be lost."""

_GO = b"\n"
_LOOK = 0.1  # seconds
_STARTS = 120.0  # seconds that an image may take to be brought to a node


def shell(*, tools: bool) -> Shell:
    """Return the shell of a session, that of its image; raises Failed, because nothing can be lent."""
    if tools:
        raise Failed(
            "a cluster has no tools to lend to a debug session", hint="take what its image has: leave --tools out"
        )
    return Shell(command=SHELL)


async def attach(cluster: Cluster, environment: EnvironmentId, run: InstanceId) -> Terminal:
    """Return the terminal of a session once its program runs; raises Failed when it is gone, or did not start."""
    name = names.run_name(environment, run)
    for _ in range(round(_STARTS / _LOOK)):
        if _runs(cluster.cache.get(kinds.POD, name), run):
            break
        await asyncio.sleep(_LOOK)
    else:
        raise Failed(f"{run} has not started after {_STARTS:.0f} seconds")
    pod = await cluster.get(kinds.POD, name)
    if pod is None:
        raise Failed(f"there is no debug session {run}")
    container = pod["spec"]["containers"][0]
    if not container.get("tty"):
        return Piped(cluster, name, await _input(cluster, name))
    if is_over(pod):
        raise Failed(f"{run} has ended")
    terminal = await cluster.attach(name, CONTAINER, tty=True)
    if tuple(container.get("command") or ()) == SHELL:
        await terminal.write(_GO)
    return terminal


def _runs(pod: Object | None, run: InstanceId) -> bool:
    if pod is None:
        raise Failed(f"there is no debug session {run}")
    return has_begun(pod) or is_over(pod)


async def _input(cluster: Cluster, name: str) -> Terminal | None:
    """Return what takes the input of a session without a terminal, None where it has ended already."""
    try:
        return await cluster.attach(name, CONTAINER, tty=False)
    except Failed:
        return None


class Piped:
    """Implements ``Terminal`` for a session without one: everything that it writes from its start is told once."""

    def __init__(self, cluster: Cluster, name: str, typed: Terminal | None) -> None:
        self._lines = cluster.logs(name, container=CONTAINER, follow=True, timestamps=False)
        self._typed = typed
        self._drain = asyncio.create_task(_unread(typed)) if typed is not None else None

    async def read(self) -> tuple[str, bytes] | None:
        """See ``Terminal.read``."""
        with suppress(StelaeError):
            async for line in self._lines:
                return "stdout", line.encode() + b"\n"
        return None

    async def write(self, data: bytes) -> None:
        """See ``Terminal.write``."""
        if self._typed is not None:
            await self._typed.write(data)

    async def end(self) -> None:
        """See ``Terminal.end``."""
        if self._typed is not None:
            await self._typed.end()

    async def resize(self, rows: int, columns: int) -> None:
        """See ``Terminal.resize``: it has no window."""

    def close(self) -> None:
        """See ``Terminal.close``."""
        if self._typed is not None:
            self._typed.close()
        if self._drain is not None:
            self._drain.cancel()


async def _unread(typed: Terminal) -> None:
    """Take what the other way tells too, so that nothing waits for being read."""
    while await typed.read() is not None:
        pass
