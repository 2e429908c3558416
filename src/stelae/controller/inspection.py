"""Inspections: beside the loops each environment is inspected for drift, again and again, and at once when its
platform calls for it.

What they find is recorded; what is done about it is then the loop's business, like everything else. While nothing
runs nothing is inspected. An inspection that fails is logged, and is no finding.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

import structlog

from stelae.controller.record import Record
from stelae.core import drift
from stelae.core.drift import Sweep
from stelae.domain.drift import Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError, Unreachable
from stelae.domain.event import Recorded
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant
from stelae.platforms.port import Platform

log = structlog.get_logger(__name__)

SWEEP = 4.5
"""Seconds from the beginning of an inspection to that of the next: what it takes included, all is found in 5."""

PAUSE = 0.25
"""Seconds between two inspections at least, whoever calls for them how often."""

Listener = Callable[[EnvironmentId, Inspection], None]


class Inspections:
    """Inspects the environments of *record* on *platform*."""

    def __init__(self, record: Record, platform: Platform, clock: Callable[[], Instant]) -> None:
        self._record = record
        self._platform = platform
        self._clock = clock
        self._wake: Callable[[EnvironmentId], None] = lambda _: None
        self._called: dict[EnvironmentId, asyncio.Event] = defaultdict(asyncio.Event)
        self._listeners: list[Listener] = []

    def on_sweep(self, listener: Listener) -> None:
        """Have *listener* called, in the event loop, after each inspection that told something, once what it found
        is recorded."""
        self._listeners.append(listener)

    async def keep_inspecting(self, wake: Callable[[EnvironmentId], None]) -> None:
        """Inspect every environment, those included that come to be, until cancelled; *wake* has the loop of one look
        at what was recorded."""
        self._wake = wake
        self._platform.alarm(lambda name: self._called[name].set())
        async with asyncio.TaskGroup() as group:
            kept: set[EnvironmentId] = set()

            def keep(name: EnvironmentId) -> None:
                if name and name not in kept:
                    kept.add(name)
                    group.create_task(self._keep(name), name=f"inspections {name}")

            def recorded(item: Recorded) -> None:
                keep(item.environment)

            for name in self._record.state.environments:
                keep(name)
            self._record.listen(recorded)
            await asyncio.get_running_loop().create_future()

    async def _keep(self, name: EnvironmentId) -> None:
        loop, called = asyncio.get_running_loop(), self._called[name]
        while True:
            began = loop.time()
            called.clear()
            if drift.may_be_inspected(self._env(name)):
                try:
                    await self.inspect(name)
                except StelaeError as error:
                    log.warning("inspection.failed", environment=name, problem=str(error))
                except Exception:  # a fault in a check must not end the controller
                    log.exception("inspection.crashed", environment=name)
            await asyncio.sleep(max(0.0, began + PAUSE - loop.time()))
            try:
                async with asyncio.timeout_at(began + SWEEP):
                    await called.wait()
            except TimeoutError:
                pass

    async def inspect(self, name: EnvironmentId, *, thorough: bool = False) -> Inspection:
        """Inspect *name* now, record what that adds, and return what was found; raises Unreachable."""
        began, asked = self._env(name), self._clock()
        found = await self._platform.inspect(began, thorough=thorough)
        sweep = Sweep(began=began, asked=asked, found=found, thorough=thorough)
        if sweep.stale:
            raise Unreachable("the platform told what it had found before")

        def news() -> drift.Events:
            return drift.events(self._env(name), sweep, self._clock())

        if news() and await self._record.append(news, environment=name):
            self._wake(name)
        for listener in self._listeners:
            listener(name, found)
        return found

    def _env(self, name: EnvironmentId) -> EnvironmentState:
        return self._record.environment(name) or EnvironmentState(id=name)
