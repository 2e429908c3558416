"""The loops of all environments: started as environments appear, woken when something changes.

What a person asked for wakes its loop by being recorded, so a client that leaves early does not leave it asleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stelae.controller.loop import EnvironmentLoop
from stelae.controller.policy import Policy
from stelae.controller.record import CONTROLLER, Record
from stelae.controller.watching import Watches
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import Recorded
from stelae.domain.units import Instant
from stelae.platforms.port import Platform


class Loops:
    """One task an environment, in *group*."""

    def __init__(
        self, record: Record, platform: Platform, clock: Callable[[], Instant], group: asyncio.TaskGroup,
        policy: Policy, watches: Watches | None = None,
    ) -> None:  # fmt: skip
        self._watches = watches or Watches()
        self._record = record
        self._platform = platform
        self._clock = clock
        self._group = group
        self._policy = policy
        self._loops: dict[EnvironmentId, EnvironmentLoop] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start a loop for each recorded environment, and for each one that is recorded from now on."""
        for name in self._record.state.environments:
            self._ensure(name)
        self._record.listen(self._recorded)
        self._platform.watch(self.wake)

    def wake(self, name: EnvironmentId) -> None:
        """Have environment *name* looked at now."""
        loop = self._loops.get(name)
        if loop is not None:
            loop.wake()

    def stop(self) -> None:
        """Cancel the loops; what they hold goes on running."""
        for task in self._tasks:
            task.cancel()

    def _recorded(self, recorded: Recorded) -> None:
        if recorded.environment:
            self._ensure(recorded.environment)
            if recorded.actor != CONTROLLER:
                self.wake(recorded.environment)

    def _ensure(self, name: EnvironmentId) -> None:
        if name not in self._loops:
            watch = self._watches.of(name)
            loop = EnvironmentLoop(name, self._record, self._platform, self._clock, self._policy, watch)
            self._loops[name] = loop
            self._tasks.append(self._group.create_task(loop.run(), name=f"loop {name}"))
