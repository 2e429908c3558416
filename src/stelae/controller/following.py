"""What is made of the record beside the loops goes on with it, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from anyio import to_thread

from stelae.controller.record import Record


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two steps, between two rows of them, and until it is tried again when it failed."""

    step: float
    rest: float
    again: float


async def follow(record: Record, step: Callable[[], bool], pace: Pace) -> AsyncIterator[str]:
    """Take steps in a thread until there are no more, and again whenever the record has grown, without an end.

    After each row of steps "" is yielded, or what went wrong, which disturbs nobody.
    """
    while True:
        size = record.state.size
        try:
            more = True
            while more:
                more = await to_thread.run_sync(step)
                await asyncio.sleep(pace.step)
        except Exception as error:  # noqa: BLE001 - the outermost frame of what nobody waits for
            yield str(error) or type(error).__name__
            await asyncio.sleep(pace.again)
            continue
        yield ""
        await record.changed(size)
        await asyncio.sleep(pace.rest)
