"""What a container writes and is told, for its log and for who is attached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator


class Output:
    """The lines of one run, each with its time, and its input."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.over = False
        self._more = asyncio.Event()
        self._input: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, line: str) -> None:
        """Write a line."""
        at = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 10**9)) + f".{at % 10**9:09d}Z"
        self.lines.append((stamp, line))
        self._wake()

    def end(self) -> None:
        """Nothing is written any more."""
        self.over = True
        self._wake()

    def type(self, line: str | None) -> None:
        """Type a line; None is the end of the input."""
        self._input.put_nowait(line)

    async def typed(self) -> str | None:
        """Return the next line that was typed."""
        return await self._input.get()

    async def follow(self, start: int = 0) -> AsyncIterator[tuple[str, str]]:
        """Give the lines from *start*, waiting for more until it is over."""
        while True:
            while start < len(self.lines):
                yield self.lines[start]
                start += 1
            if self.over:
                return
            more = self._more
            await more.wait()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()
