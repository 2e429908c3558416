"""Guarding layers between sweeps: a write to one raises the alarm, and each is read again within ``INTERVAL``.

A layer that this controller has never read is read first. After that the readings are spread evenly over the
interval. They go at most at ``RATE``, past the page cache, so what runs notices nothing of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from anyio.to_thread import run_sync

from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.inspect.layer_file import Identity, WatchedLayer
from stelae.platforms.local.inspect.layer_watch import Layers
from stelae.platforms.local.inspect.reading import WINDOW, Reading

INTERVAL = 3600.0
"""Within how many seconds each byte of each layer is read again."""

RATE = 32 * WINDOW
"""Bytes a second while a layer is read: about 2 to 3 % of a core."""

_SPREAD = 0.9  # of the interval: the rest is for the readings themselves
_STEPS = 4
_IDLE = 1.0


class Guard:
    """Guards *layers* from now on; *told* is called with each environment that should be inspected at once. *users*
    gives the environments whose instances run on files. Made and used in an event loop."""

    def __init__(
        self, layers: Layers, users: Callable[[Collection[Identity]], Collection[EnvironmentId]],
        told: Callable[[EnvironmentId], None],
    ) -> None:  # fmt: skip
        self._layers = layers
        self._users = users
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = {self._loop.create_task(self._read())}
        self._heard = layers.notice.fileno() if layers.notice is not None else -1
        if self._heard >= 0:
            self._loop.add_reader(self._heard, self._hear)

    async def close(self) -> None:
        """Guard nothing any more."""
        if self._heard >= 0:
            self._loop.remove_reader(self._heard)
        for task in self._tasks:
            task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError):
                await task

    def _hear(self) -> None:
        fresh = self._layers.hear()
        if fresh:
            task = self._loop.create_task(self._tell(fresh))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, files: Collection[Identity]) -> None:
        for environment in await run_sync(self._users, files):
            self._told(environment)

    async def _read(self) -> None:
        while True:
            layer, pause = due(self._layers.all(), time.monotonic())
            if layer is None:
                await asyncio.sleep(min(pause, _IDLE))
            elif await self._read_one(layer):
                await self._tell({layer.identity})

    async def _read_one(self, layer: WatchedLayer) -> bool:
        """Read *layer* as slowly as it has to be; true when that found trouble."""
        reading = None
        with suppress(OSError):  # no descriptor left: later
            reading = self._layers.reading(layer)
        if reading is None:  # it was let go of meanwhile
            await asyncio.sleep(_IDLE)
            return False
        try:
            more = True
            while more:
                started = time.monotonic()
                more = await run_sync(_some, reading)
                await asyncio.sleep(max(0.0, _STEPS * WINDOW / RATE - (time.monotonic() - started)))
        except OSError as error:
            return self._layers.judged(layer, "", differs=False, reason=f"it cannot be read: {error.strerror}")
        finally:
            reading.close()
        return self._layers.judged(layer, reading.digest, differs=reading.differs)


def due(layers: Collection[WatchedLayer], now: float) -> tuple[WatchedLayer | None, float]:
    """Return the layer that is to be read next, and None with the seconds until there is one otherwise."""
    sound = [layer for layer in layers if layer.trouble is None]
    never = [layer for layer in sound if layer.checked is None]
    if never:
        return never[0], 0.0
    if not sound:
        return None, _IDLE
    # one after the other, each at the share of the interval that its size is of all
    oldest = min(sound, key=lambda layer: layer.checked or 0.0)
    last = max(layer.checked or 0.0 for layer in sound)
    total = sum(layer.size for layer in sound) or 1
    at = last + INTERVAL * oldest.size / total * _SPREAD
    return (oldest, 0.0) if at <= now else (None, at - now)


def _some(reading: Reading) -> bool:
    return all(reading.step() for _ in range(_STEPS))
