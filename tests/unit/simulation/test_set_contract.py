"""The contract of a platform that keeps sets, on the simulated cluster: by ratio, and with exact weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import ClassVar

from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.units import SECOND
from stelae.platforms.port import Platform
from stelae.testing.clock import VirtualLoop, WorldClock, run_virtual
from stelae.testing.cluster import Cluster
from stelae.testing.contract_secrets import VALUES, VERSION, Given
from stelae.testing.contract_sets import SetsContract
from stelae.testing.set_subject import Body, SetSubject, release
from stelae.testing.simulated_sets import SimulatedSets, World
from stelae.testing.things import Behaviour

RELEASES = {name: release(name, (name,)) for name in ("serving", "rival", "hanging", "exiting", "telling")}
TELLING = replace(RELEASES["telling"], secrets=dict.fromkeys(VALUES, VERSION), secret_env=("TEXT",))
BEHAVIOURS = {
    RELEASES["serving"].id: Behaviour(job_after=None),
    RELEASES["hanging"].id: Behaviour(ready_after=None, ignores_term=True, job_after=None),
    RELEASES["exiting"].id: Behaviour(ready_after=None, exits_after=0, exit_code=3, job_after=0, job_code=3),
}


class OnCluster(SetsContract):
    gateway: ClassVar[str]

    def run_sets(self, body: Body) -> None:
        async def whole(loop: VirtualLoop) -> None:
            clock = WorldClock(loop)
            cluster = Cluster(behaviours=dict(BEHAVIOURS), chance=Random(1), drain=SECOND)
            world = World(cluster)

            async def another() -> Platform:
                return SimulatedSets(world, clock, Given())

            @asynccontextmanager
            async def silence() -> AsyncIterator[None]:
                world.silent = True
                yield
                world.silent = False

            async def left() -> list[str]:
                cluster.age_to(clock())
                weights = [] if cluster.weights is None else [f"traffic {cluster.weights}"]
                return [*map(str, (*cluster.sets, *cluster.pods, *cluster.runs)), *weights]

            subject = SetSubject(
                platform=await another(), serving=RELEASES["serving"], rival=RELEASES["rival"],
                hanging=RELEASES["hanging"], exiting=RELEASES["exiting"], telling=TELLING, another=another,
                silence=silence, left=left,
                choice=PlatformChoice(kind=PlatformKind.KUBERNETES, gateway=self.gateway),
            )  # fmt: skip
            async with asyncio.timeout(3600):
                await body(subject)

        run_virtual(whole)


class TestByRatio(OnCluster):
    gateway = ""


class TestExact(OnCluster):
    gateway = "infra/front"
