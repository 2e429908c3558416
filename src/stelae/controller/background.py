"""Work that goes on when its client leaves: half a build is worth less than a whole one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Json = dict[str, Any]
Tell = Callable[[str], None]


class Background:
    """Carries work out and streams what it tells."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    async def streamed(
        self, work: Callable[[Tell], Awaitable[Json]], then: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Json]:
        """Do *work* and yield the lines that it tells meanwhile (from any thread) as progress, then what it returns
        as the result. *then* is done after that; the stream ends, or fails, with it."""
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str | Json | None] = asyncio.Queue()

        async def run() -> None:
            try:
                lines.put_nowait(await work(lambda text: _put(loop, lines, text)))
                if then is not None:
                    await then()
            finally:
                lines.put_nowait(None)

        running = asyncio.create_task(run())
        self._running.add(running)
        running.add_done_callback(self._ended)
        while (line := await lines.get()) is not None:
            yield {"progress": {"text": line}} if isinstance(line, str) else {"result": line}
        await asyncio.shield(running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be there any more to be told; it is in the record


def _put(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str | Json | None], text: str) -> None:
    loop.call_soon_threadsafe(lines.put_nowait, text)
