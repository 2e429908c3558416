"""A coroutine in a thread and event loop of its own, so that a plain test can go on beside it."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, Self, TypeVar

Result = TypeVar("Result")


class Background(ABC, Generic[Result]):
    """Runs ``_main`` from ``start`` until it returns, or until ``stop`` asks it to.

    A subclass sets ``_ready`` when it has begun in earnest (``start`` waits for that), and returns from
    ``_main`` soon after ``_stopped`` is set.
    """

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._future: Future[Result] = Future()
        self._ready = threading.Event()
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @abstractmethod
    async def _main(self) -> Result: ...

    def start(self, timeout: float = 30) -> Self:
        """Begin, and wait until it has begun; raises TimeoutError after *timeout* seconds.

        When it fails before that, this returns: ``wait`` and ``stop`` tell.
        """
        self._thread.start()
        if not self._ready.wait(timeout):
            self._ask_to_stop()
            raise TimeoutError(f"{self._thread.name} did not begin within {timeout:g} s")
        return self

    def wait(self, timeout: float = 60) -> Result:
        """Wait for its own end; raises what it raised, and TimeoutError after *timeout* seconds."""
        return self._future.result(timeout)

    def stop(self, timeout: float = 60) -> Result:
        """Ask it to end, and wait like ``wait``. More than once gives the same again."""
        self._ask_to_stop()
        return self.wait(timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask_to_stop(self) -> None:
        if self._loop is not None and not self._future.done():
            try:
                self._loop.call_soon_threadsafe(self._stopped.set)
            except RuntimeError:
                return  # the loop was closed in between: it has ended by itself

    def _run(self) -> None:
        try:
            self._future.set_result(asyncio.run(self._outer()))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, not swallowed
            self._future.set_exception(error)
        finally:
            self._ready.set()

    async def _outer(self) -> Result:
        self._loop = asyncio.get_running_loop()
        return await self._main()
