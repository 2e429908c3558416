"""A terminal carried over two streams of JSON: what is typed comes as messages, what is shown goes as others.

Bytes are in base64, because what a program writes need not be text. How much of what was typed has reached the
program is told too: who types waits for that, so that nothing piles up here while the program does not read.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

from stelae.domain.errors import InvalidInput, StelaeError
from stelae.platforms.port import Terminal

Json = dict[str, Any]

MOST_WAITING = 1 << 20
"""So many bytes may be typed that have not reached the program."""

_MOST_SHOWN = 8  # pieces of output that wait until the person's side takes them


class Typed:
    """What a person types, as it comes. ``gone`` is set once the person's side of the connection has ended, and
    ``failed`` once something came that cannot be typed: nothing after it is taken."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.failed = False
        self._messages: asyncio.Queue[Json | StelaeError | None] = asyncio.Queue()
        self._waiting = 0

    def put(self, message: Json) -> None:
        """Take ``{"data": BASE64}`` or ``{"rows", "columns"}``."""
        if self.failed:
            return
        self._waiting += len(message["data"])
        if self._waiting > 2 * MOST_WAITING:
            self.fail(InvalidInput(f"more than {MOST_WAITING} bytes are typed ahead", where="request"))
        else:
            self._messages.put_nowait(message)

    def fail(self, error: StelaeError) -> None:
        """Have *error* raised where the messages are read."""
        self.failed = True
        self._messages.put_nowait(error)

    def end(self) -> None:
        """Nothing more will be typed."""
        self._messages.put_nowait(None)

    async def next(self) -> Json | None:
        """Return the next message, None at the end; raises what ``fail`` was given."""
        message = await self._messages.get()
        if isinstance(message, StelaeError):
            raise message
        if message is not None:
            self._waiting -= len(message["data"])
        return message

    async def unless_gone(self, waiting: Any) -> bool:
        """Wait for the coroutine *waiting*; false when the person has gone before it was done."""
        task, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            done = bool(task.done())
            if done:
                task.result()
            return done
        finally:
            task.cancel()
            gone.cancel()


async def carried(terminal: Terminal, typed: Typed) -> AsyncIterator[Json]:
    """Carry until the program has ended or the person has gone: yield ``{"stream", "data", "typed"}``."""
    said: asyncio.Queue[Json | StelaeError | None] = asyncio.Queue(_MOST_SHOWN)
    tasks = [asyncio.create_task(_shown(terminal, said)), asyncio.create_task(_typed(terminal, typed, said))]
    found: list[Json | StelaeError | None] = []

    async def get() -> None:
        found.append(await said.get())

    try:
        while await typed.unless_gone(get()):
            message = found.pop()
            if isinstance(message, StelaeError):
                raise message
            if message is None:
                return
            yield message
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _shown(terminal: Terminal, said: asyncio.Queue[Json | StelaeError | None]) -> None:
    while (piece := await terminal.read()) is not None:
        stream, data = piece
        await said.put({"stream": stream, "data": base64.b64encode(data).decode(), "typed": 0})
    await said.put(None)


async def _typed(terminal: Terminal, typed: Typed, said: asyncio.Queue[Json | StelaeError | None]) -> None:
    try:
        while (message := await typed.next()) is not None:
            if message["data"]:
                data = bytes_of(message["data"])
                await terminal.write(data)
                await said.put({"stream": "", "data": "", "typed": len(data)})
            elif message["rows"] and message["columns"]:
                await terminal.resize(message["rows"], message["columns"])
        # Who has gone did not end what they typed: the session is cancelled, however quick the program would end.
        if not typed.gone.is_set():
            await terminal.end()
    except StelaeError as error:
        await said.put(error)


def bytes_of(text: str) -> bytes:
    """Return what *text* is the base64 of; raises InvalidInput."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInput("what is typed is not base64", where="request") from error
