"""Virtual time: an asyncio event loop that never sleeps, and a clock of the world that can jump.

When nothing is left to do the loop's time goes on to the next timer at once. It looks at no socket and starts
no thread: what is given to an executor runs where it is called. So a run with the same inputs is the same run.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from stelae.domain.units import SECOND, Duration, Instant
from stelae.system.points import Killed

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

BEGINNING: Instant = 1_796_040_000 * SECOND
"""The world's time when a virtual loop begins: 2026-11-30 12:00 UTC."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


MOST_TURNS = 20_000
"""So many turns of a loop at one time count as a loop that never waits."""


class Deadlock(AssertionError):
    """Every task waits and no timer will ever wake one, or the tasks never wait and the time stands still."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time`` is virtual, in seconds from 0.

    ``disk`` is how many seconds what runs in an executor takes; results come back in the order of the calls.
    """

    def __init__(self) -> None:
        self._idle = _Idle()
        super().__init__(self._idle)
        self.disk = 0.0
        self._disk_free = 0.0

    def time(self) -> float:
        """Return the virtual time."""
        return self._idle.time

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Call *func* now; give its result when the disk's time is over."""
        done: asyncio.Future[_T] = self.create_future()
        self._disk_free = max(self._disk_free, self.time()) + self.disk
        try:
            result = func(*args)
        except Killed:  # its process ended in the middle: whoever waits, waits for ever
            return done
        except Exception as error:  # noqa: BLE001 - it goes to who waits
            problem = error
            self._later(done, lambda: done.set_exception(problem))
        else:
            self._later(done, lambda: done.set_result(result))
        return done

    def _later(self, done: asyncio.Future[Any], settle: Callable[[], None]) -> None:
        def give() -> None:
            if not done.done():
                settle()

        if self._disk_free <= self.time():
            give()
        else:
            self.call_at(self._disk_free, give)

    def _write_to_self(self) -> None:
        """Nothing has to be woken: there is only one thread."""


class _Idle(selectors.BaseSelector):
    """A selector that looks at no file: to wait is to let the time go on."""

    def __init__(self) -> None:
        self.time = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits, and no timer will wake one")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > MOST_TURNS:
            self._turns = 0
            raise Deadlock(f"the time stands still: {MOST_TURNS} turns without a wait")
        self.time += max(0.0, timeout)
        return []

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Take the loop's own pipe, to which nothing is ever written."""
        return selectors.SelectorKey(fileobj, -1, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """See ``register``."""
        return selectors.SelectorKey(fileobj, -1, 0, None)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return {}


class WorldClock:
    """What the machine's clock says: the loop's time since ``BEGINNING``, and the jumps made since.

    ``steady`` is the true time, which does not jump: things happen by it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.offset: Duration = 0

    def __call__(self) -> Instant:
        return self.steady() + self.offset

    def steady(self) -> Instant:
        """Return the time without the jumps."""
        return BEGINNING + round(self._loop.time() * SECOND)

    def jump(self, by: Duration) -> None:
        """Put the clock forward, or back when *by* is negative."""
        self.offset += by


def run_virtual(main: Callable[[VirtualLoop], Coroutine[Any, Any, _T]]) -> _T:
    """Run *main* in a virtual loop of its own to its end, and end whatever tasks it leaves behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.run_until_complete(end_tasks())
        loop.close()


async def end_tasks() -> None:
    """Cancel every other task of the running loop, and wait until they have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
