"""Who uses the image store and who cleans it: many users at a time, or one cleaner alone.

What is being built or prepared is not recorded yet, so garbage collection cannot know that it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Space:
    """Used from one event loop. A cleaner waits for a moment without users; they wait only while it cleans."""

    def __init__(self) -> None:
        self._users = 0
        self._cleaning = False
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Nothing is cleaned inside."""
        while self._cleaning:
            await self._changed.wait()
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._tell()

    @asynccontextmanager
    async def cleaned(self) -> AsyncIterator[None]:
        """Nobody uses the store inside, and nobody else cleans it."""
        while self._users or self._cleaning:
            await self._changed.wait()
        self._cleaning = True
        try:
            yield
        finally:
            self._cleaning = False
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
