"""What has ended is taken away beside the loop: however long that takes, the next rollout does not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from stelae.controller.admission import Admission
from stelae.controller.loop import EnvironmentLoop
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.core import converge
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import DeploymentRequested, EnvironmentApplied
from stelae.domain.observation import Observation
from stelae.domain.platform import PlatformChoice
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger
from stelae.platforms.port import Capability, Platform
from stelae.system.clock import now
from stelae.testing.world import Behaviour, World
from tests.unit.core.fixtures import WEB, environment, release

NAME = EnvironmentId("shop/test")


class SlowToRemove:
    """A world as the platform, in which no removal ends until ``go`` is set."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self) -> None:
        self.world = World.of(environment(web=2, worker=0))
        self.go = asyncio.Event()

    def on(self, choice: PlatformChoice) -> SlowToRemove:
        return self

    async def observe(self, env: EnvironmentState) -> Observation | None:
        self.world.env, self.world.now = env, now()
        return self.world.observe()

    def actions(self, *state: Any) -> tuple[Action, ...]:
        return converge.actions(*state)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        if action.verb is Verb.REMOVE:
            await self.go.wait()
        if env.actions >= self.world.env.actions:  # a removal that waited has an older one
            self.world.env = env
        self.world.now = now()
        self.world.act(action)


async def _until(record: Record, condition: Callable[[EnvironmentState], bool]) -> EnvironmentState:
    async with asyncio.timeout(30):
        while not condition(record.state.environments[NAME]):
            await record.changed(record.state.size)
    return record.state.environments[NAME]


async def _deployed(record: Record, loop: EnvironmentLoop, platform: SlowToRemove, version: str) -> None:
    name, wanted = f"d-{version}", release(version, WEB)
    platform.world.behaviours[wanted.id] = Behaviour(ready_after=0)
    request = DeploymentRequested(
        deployment=name, deployment_kind=DeploymentKind.DEPLOY, release=wanted,
        strategy=environment("blue-green").strategy,
    )  # fmt: skip
    await record.append([request], environment=NAME)
    loop.wake()
    await _until(record, lambda env: env.deployments[name].outcome is Outcome.SUCCEEDED)


def _removals(env: EnvironmentState) -> list[InstanceId]:
    return [action.instance for action in env.pending.values() if action.verb is Verb.REMOVE]


def test_a_rollout_does_not_wait_for_removals(tmp_path: Path) -> None:
    async def body() -> None:
        ledger = Ledger.open(tmp_path / "ledger.db", clock=now)
        record = Record(ledger, Projections(tmp_path / "projections", ledger))
        platform = SlowToRemove()
        loop = EnvironmentLoop(
            NAME, record, cast(Platform, platform), now, Policy(record, Admission(record, None), now)
        )
        await record.append([EnvironmentApplied(environment=environment(web=2, worker=0))], environment=NAME)
        running = asyncio.create_task(loop.run())
        try:
            await _deployed(record, loop, platform, "v1")
            await _deployed(record, loop, platform, "v2")
            await _until(record, lambda env: len(_removals(env)) == 2)  # those of v1 are being removed, and it hangs
            await _deployed(record, loop, platform, "v3")
            env = await _until(record, lambda env: len(_removals(env)) == 4)
            assert len(set(_removals(env))) == 4, "each is removed once"
            platform.go.set()
            env = await _until(record, lambda env: not env.pending)
            assert {item.release for item in env.instances.values()} == {release("v3", WEB).id}
        finally:
            running.cancel()
            await asyncio.wait([running])
            record.close()

    asyncio.run(body())
