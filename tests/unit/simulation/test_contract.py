"""The contract of a platform, on the simulated one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.units import HOUR, SECOND
from stelae.platforms.port import Platform
from stelae.testing.clock import VirtualLoop, WorldClock, run_virtual
from stelae.testing.contract import Body, PlatformContract, Subject
from stelae.testing.contract_secrets import VALUES, VERSION, Given
from stelae.testing.faults import Faults, LookFault
from stelae.testing.machine import Machine
from stelae.testing.requests import Asked, Told
from stelae.testing.simulated import SimulatedPlatform
from stelae.testing.things import Behaviour

WEB = Process(name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP, path="/"))


def _release(name: str) -> Release:
    return Release(app="shop", environment="test", image=digest_of(name.encode()), processes=(WEB,))


SERVING, HANGING, EXITING = _release("serving"), _release("hanging"), _release("exiting")
RIVAL = _release("rival")
TALKING = _release("talking")
TELLING = replace(_release("telling"), secrets=dict.fromkeys(VALUES, VERSION), secret_env=("TEXT",))
BEHAVIOURS = {
    SERVING.image: Behaviour(drains=2 * SECOND, job_after=None),
    RIVAL.image: Behaviour(drains=2 * SECOND),
    HANGING.image: Behaviour(ready_after=None, ignores_term=True, job_after=None),
    EXITING.image: Behaviour(ready_after=None, exits_after=0, exit_code=3, job_after=0, job_code=3),
}


class TestSimulatedPlatform(PlatformContract):
    def run(self, body: Body) -> None:
        async def whole(loop: VirtualLoop) -> None:
            clock = WorldClock(loop)
            machine, faults = Machine(clock.steady, BEHAVIOURS), Faults(now=clock.steady)

            def attach() -> Platform:
                return SimulatedPlatform(machine, faults, clock, secrets=Given())

            async def another() -> Platform:
                return attach()

            @asynccontextmanager
            async def request() -> AsyncIterator[None]:
                yield
                await asyncio.sleep(2)

            @asynccontextmanager
            async def silence() -> AsyncIterator[None]:
                faults.looks[LookFault.UNAVAILABLE] = clock.steady() + HOUR
                yield
                faults.heal()

            async def left() -> list[str]:
                return [f"instance {name}" for site in machine.sites.values() for name in site.things]

            async def ask(asked: Asked) -> Told:
                return machine.ask(EnvironmentId("shop/test"), asked)

            async def tamper(name: InstanceId) -> None:
                machine.drift(EnvironmentId("shop/test"), name, "its monitor has ended", Drift.MONITOR)

            await body(
                Subject(
                    platform=attach(), serving=SERVING, hanging=HANGING, exiting=EXITING, another=another,
                    request=request, silence=silence, left=left, telling=TELLING, rival=RIVAL, ask=ask,
                    talking=TALKING, tamper=tamper,
                )
            )  # fmt: skip

        run_virtual(whole)
