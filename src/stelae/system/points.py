"""Points: the moments just before and just after every act of a platform and every write of the record.

Whoever does one of these is decorated with ``around``, so that no act and no write can be done without passing its
two points. In a controller that serves nothing is listening there, and passing costs a look at one variable.

Tests listen. A simulated world gives a handler of its own (``handled``). A controller on real parts is told by its
environment where its process ends or stops by itself, as exactly as no signal from outside could:

    STELAE_CRASH_AT=action.launch.after:2    SIGKILL at the second time that it comes to this point
    STELAE_PAUSE_AT=ledger.append.before     SIGSTOP at the first time

A point is called ``action.VERB.SIDE`` or ``ledger.WRITE.SIDE`` (see ``EVERY``), SIDE is ``before`` or ``after``;
after is also after an act or a write that failed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, TypeVar, cast

from stelae.domain.action import Verb
from stelae.domain.errors import InvalidInput

Handler = Callable[[str], None]

WRITES: Final = ("open", "create", "append", "copy", "reserve", "projection", "publish", "restore")
"""What writes to the record's files: opening (the lock), making it, an append's transaction, the copy of SQLite's log
into the database, the space kept free, a folded state, and a file of the published log."""

THINGS: Final = (*(f"action.{verb}" for verb in Verb), *(f"ledger.{write}" for write in WRITES))
EVERY: Final = tuple(f"{thing}.{side}" for thing in THINGS for side in ("before", "after"))
"""Every point that there is."""

SIGNALS: Final = {"STELAE_CRASH_AT": signal.SIGKILL, "STELAE_PAUSE_AT": signal.SIGSTOP}

_F = TypeVar("_F", bound=Callable[..., Any])

_handler: Handler | None = None


class Killed(BaseException):
    """Raised by a handler that plays the end of the process: whoever came to the point goes no further."""


def around(thing: str | Callable[..., str]) -> Callable[[_F], _F]:
    """Put a point before and a point after a function or coroutine function; *thing* is one of ``THINGS``, or
    gives it from the arguments."""
    if isinstance(thing, str) and thing not in THINGS:
        raise ValueError(f"nothing is called {thing}")

    def decorate(function: _F) -> _F:
        around_it = _around_coroutine if inspect.iscoroutinefunction(function) else _around_function
        return cast(_F, wraps(function)(around_it(function, thing)))

    return decorate


def _around_function(function: Callable[..., Any], thing: str | Callable[..., str]) -> Callable[..., Any]:
    def passing(*args: Any, **kwargs: Any) -> Any:
        if _handler is None:
            return function(*args, **kwargs)
        name = thing if isinstance(thing, str) else thing(*args, **kwargs)
        _come_to(f"{name}.before")
        try:
            result = function(*args, **kwargs)
        except Exception:
            _come_to(f"{name}.after")
            raise
        _come_to(f"{name}.after")
        return result

    return passing


def _around_coroutine(function: Callable[..., Any], thing: str | Callable[..., str]) -> Callable[..., Any]:
    async def passing(*args: Any, **kwargs: Any) -> Any:
        if _handler is None:
            return await function(*args, **kwargs)
        name = thing if isinstance(thing, str) else thing(*args, **kwargs)
        await _wait_at(f"{name}.before")
        try:
            result = await function(*args, **kwargs)
        except Exception:
            await _wait_at(f"{name}.after")
            raise
        await _wait_at(f"{name}.after")
        return result

    return passing


def _come_to(point: str) -> None:
    if _handler is not None:
        _handler(point)


async def _wait_at(point: str) -> None:
    try:
        _come_to(point)
    except Killed:  # a task of a process that has ended neither goes on nor hears of it
        await asyncio.get_running_loop().create_future()


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Have *handler* called at every point with its name; it may raise ``Killed``."""
    global _handler
    before, _handler = _handler, handler
    try:
        yield
    finally:
        _handler = before


def arm(environment: Mapping[str, str] = os.environ) -> None:
    """Have this process end or stop where its *environment* says; does nothing when that says nothing.

    Raises InvalidInput for a point that there is not, so that no test waits for what cannot happen.
    """
    global _handler
    armed = [_Trap(text, number) for name, number in SIGNALS.items() if (text := environment.get(name))]

    def spring(point: str) -> None:
        for trap in armed:
            trap(point)

    if armed:
        _handler = spring


class _Trap:
    """Sends this process *number* at the given time that it comes to a point, and once only."""

    def __init__(self, text: str, number: signal.Signals) -> None:
        self._point, _, times = text.partition(":")
        if self._point not in EVERY or not (times or "1").isdecimal():
            raise InvalidInput(f"no point is called {text!r}", hint=f"POINT or POINT:N, one of {', '.join(EVERY)}")
        self._left = int(times or "1")
        self._number = number
        self._lock = threading.Lock()

    def __call__(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if due:
            # To this thread: one to the process may be taken by another thread, and this one goes on a little.
            signal.pthread_kill(threading.get_ident(), self._number)
