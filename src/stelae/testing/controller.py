"""A controller in a simulated world: the real record, ledger, loops and use cases, and a way to kill it anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stelae.controller.admission import Admission
from stelae.controller.approvals import Approvals
from stelae.controller.checks import Checker
from stelae.controller.debugging import Debugging
from stelae.controller.deployments import Deployments
from stelae.controller.drifts import Drifts
from stelae.controller.environments import Environments
from stelae.controller.inspection import Inspections
from stelae.controller.loops import Loops
from stelae.controller.record import Record
from stelae.controller.runs import Runs
from stelae.controller.secrets import Secrets
from stelae.controller.steering import Steering
from stelae.controller.watching import Watches
from stelae.domain.event import Recorded
from stelae.domain.watch import EVERY
from stelae.ledger.projection import Projections
from stelae.ledger.store import Draft, Ledger
from stelae.system.clock import OnwardClock
from stelae.system.points import Killed
from stelae.testing.clock import WorldClock
from stelae.testing.disks import MEMORY, Maker
from stelae.testing.faults import Faults
from stelae.testing.judging import outside
from stelae.testing.laws import Laws
from stelae.testing.machine import Machine
from stelae.testing.promotion import who
from stelae.testing.simulated import SimulatedPlatform


class WatchedLedger(Ledger):
    """A ledger that shows what it recorded to the laws, and records nothing for a controller that was killed."""

    laws: Laws
    dead = False

    def append(self, drafts: Sequence[Draft], *, urgent: bool = False) -> tuple[Recorded, ...]:
        """See ``Ledger.append``."""
        if self.dead:
            raise Killed
        return super().append(drafts, urgent=urgent)

    def _commit(self, recorded: Sequence[Recorded], *rest: Any) -> None:
        super()._commit(recorded, *rest)
        for item in recorded:  # what is on the disk counts, whether or not anybody will hear of it
            self.laws.recorded(item)


class Controller:
    """One controller's life; its record is in *folder*. ``watched_every`` is how long a watch lasts."""

    watched_every = EVERY

    def __init__(self, folder: Path, machine: Machine, faults: Faults, world: WorldClock, laws: Laws) -> None:
        self._clock = clock = OnwardClock(world, world.steady)
        self._machine = machine
        self.dead = False
        self.ledger = WatchedLedger.open(folder / "ledger.db", clock=clock, reserve=0)
        self.ledger.laws = laws
        clock.not_before(self.ledger.at)
        self.record = Record(self.ledger, Projections(folder / "projections", self.ledger), clock.ahead)
        self.secrets = Secrets(self.record, laws.store)
        self.platform = SimulatedPlatform(machine, faults, clock, laws, self.secrets.source)
        laws.attached(self.platform, clock)
        self.loops: Loops
        self.maker: Maker
        self.deployments: Deployments
        self.approvals: Approvals
        self.environments: Environments
        self.runs: Runs
        self.debugging: Debugging
        self.steering: Steering
        self.inspections: Inspections
        self.drifts: Drifts
        self._task: asyncio.Task[None]

    def start(self) -> None:
        """Begin to hold the environments."""
        group = asyncio.TaskGroup()
        self._task = asyncio.get_running_loop().create_task(self._run(group))
        admission = Admission(self.record, None)
        self.maker = Maker(self.record, self._machine)
        self.deployments = Deployments(
            self.record, self.platform, None, admission, self._clock, self.maker, lambda: MEMORY
        )
        watches = Watches(self.watched_every)
        self.loops = Loops(self.record, self.platform, self._clock, group, self.deployments.policy, watches)
        self.approvals = Approvals(self.record, self.deployments, admission, self._clock, who)
        self.environments = Environments(self.record)
        self.runs = Runs(self.record, self.platform)
        self.debugging = Debugging(self.record, self.platform, self._clock)
        self.steering = Steering(self.record)
        self.inspections = Inspections(self.record, self.platform, self._clock)
        self.drifts = Drifts(self.record, self.inspections)

    async def _run(self, group: asyncio.TaskGroup) -> None:
        async with group:
            self.loops.start()
            group.create_task(self.secrets.keep())
            group.create_task(self.inspections.keep_inspecting(self.loops.wake))
            group.create_task(self.debugging.keep_terminals(self.loops.wake))
            group.create_task(Checker(self.record, self._clock, self.loops.wake, outside).keep_asking())
            await asyncio.get_running_loop().create_future()

    def killed(self) -> None:
        """Have it do nothing any more: what it was about to do or to record does not happen."""
        self.dead = self.ledger.dead = True
        if not self.platform.dead:
            self.platform.kill()

    def bury(self) -> None:
        """Let go of its files, as the end of its process does."""
        self.ledger.close()
