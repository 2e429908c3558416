"""Who holds an environment on a cluster as the controller does, and who attacks it past the record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stelae.core import autoscale, drift
from stelae.core.autoscale import Memory
from stelae.core.decide import decide
from stelae.core.drift import Sweep
from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.action import Action
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, DriftPolicy, Inspection
from stelae.domain.environment import Environment
from stelae.domain.errors import StelaeError
from stelae.domain.event import Event
from stelae.domain.observation import Observation, Phase
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.scaling import Scaling
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.units import Instant
from stelae.platforms.kubernetes.connection import JSON, MERGE, Connection, read
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.port import Platform
from stelae.system.clock import now

PATIENCE = 30.0
"""Seconds after which something that was waited for counts as never coming."""

_PAUSE = 0.1


class Holder:
    """Holds ``web`` of an environment with *count* instances on *platform*: looks, decides, acts and inspects all
    the time. ``log`` is what was recorded; ``floor`` the fewest pods that were ready since it was last set."""

    def __init__(
        self, platform: Platform, release: Release, choice: PlatformChoice, *, count: int = 2,
        policy: DriftPolicy | None = None, hosts: tuple[str, ...] = ("shop.example.com",),
        scaling: Scaling | None = None,
    ) -> None:  # fmt: skip
        applied = Environment(
            app=release.app, name=release.environment, processes={"web": count}, platform=choice,
            hosts=hosts, drift=policy or DriftPolicy(storm=100), scaling={"web": scaling} if scaling else {},
        )  # fmt: skip
        self.env = EnvironmentState(id=applied.id)
        self.log: list[tuple[Instant, Event]] = []
        self.seen: Observation | None = None
        self.floor = 0
        self._platform = platform
        self._release = release
        self._news = asyncio.Event()
        self._alarm = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._memory = Memory()
        self.record(ev.EnvironmentApplied(environment=applied))

    def record(self, *events: Event) -> None:
        """Fold *events*."""
        for event in events:
            at = now()
            self.log.append((at, event))
            self.env = evolve(self.env, event, at, "tester")

    def begin(self) -> None:
        """Hold what is applied from now on. Again: nothing."""
        if not self._tasks:
            self._platform.watch(lambda _: self._news.set())
            self._platform.alarm(lambda _: self._alarm.set())
            self._tasks = [asyncio.create_task(self._hold()), asyncio.create_task(self._inspect())]

    async def start(self) -> None:
        """Deploy the release, and return when all of it serves and nothing differs."""
        assert self.env.config is not None
        await self._platform.prepare(self._release)
        self.record(
            ev.DeploymentRequested(
                deployment="d-1", deployment_kind=DeploymentKind.DEPLOY, release=self._release,
                strategy=self.env.config.strategy,
            )
        )  # fmt: skip
        self.begin()
        await self.until(lambda: self.env.rollout is None and self.calm(), "it serves")

    async def stop(self) -> None:
        """Hold it no more; raises what went wrong."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def serving(self) -> frozenset[InstanceId]:
        """The instances that are ready and get requests."""
        if self.seen is None:
            return frozenset()
        return frozenset(
            name for name in self.seen.table
            if name in self.seen.instances and self.seen.instances[name].phase is Phase.READY
        )  # fmt: skip

    def calm(self) -> bool:
        """True when as many serve as should, nobody else gets requests, and nothing that was found goes on."""
        serving, seen = self.serving(), self.seen
        there = [one for one in self.env.instances.values() if one.exit is None and one.id in serving]
        right = seen is not None and set(seen.table) == serving and not seen.edited and not seen.strays
        enough = len(serving) == sum(self.env.wanted.values())
        return right and enough and not self.env.drift.findings and not any(one.drift for one in there)

    def found(self) -> list[ev.DriftFound]:
        """What was found, from the beginning."""
        return [event for _, event in self.log if isinstance(event, ev.DriftFound)]

    def acts(self) -> list[Action]:
        """What was done, from the beginning."""
        return [event.action for _, event in self.log if isinstance(event, ev.ActionIntended)]

    async def until_found(self, kind: Drift, words: str, by: str = "") -> ev.DriftFound:
        """Wait until a difference of that *kind* is recorded, with *words* in its sentence, and who did it."""

        def those() -> list[ev.DriftFound]:
            return [one for one in self.found() if one.drift is kind and words in one.what]

        await self.until(lambda: bool(those()), f"{kind} with {words!r} is found")
        found = those()[0]
        assert not by or any(by in line for line in found.evidence), f"nobody says that {by} did it: {found}"
        return found

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():
                    for task in self._tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            told = "\n".join(str(event) for _, event in self.log[-30:])
            raise AssertionError(f"never came: {what}; {self.seen}\n{told}") from None

    async def inspection(self, *, thorough: bool = False) -> Inspection:
        """Return what an inspection finds; nothing of it is recorded."""
        return await self._platform.inspect(self.env, thorough=thorough)

    async def _hold(self) -> None:
        while True:
            self._news.clear()
            if not await self._turn():
                try:
                    async with asyncio.timeout(0.5):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def _turn(self) -> bool:
        """Make one pass of the loop; false when there was nothing to do."""
        self.seen = seen = await self._platform.observe(self.env)
        self.floor = min(self.floor, len(_able(seen)))
        decision = decide(self.env, seen, now())
        if decision.events:
            self.record(*decision.events)
            return True
        self._memory = autoscale.remembered(self._memory, self.env, seen, counted=False)
        if scaled := autoscale.decided(self._memory, self.env, now()) if seen.complete else ():
            self.record(*scaled)
            self._memory = autoscale.noted(self._memory, scaled)
            return True
        actions = self._platform.actions(self.env.allocation, self.env, seen) if seen.complete else ()
        self.record(*(ev.ActionIntended(action=action) for action in actions))
        for action in actions:
            error = ""
            try:
                await self._platform.apply(action, self.env)
            except StelaeError as failed:
                error = str(failed)
            self.record(ev.ActionDone(number=action.number, error=error))
        return bool(actions)

    async def _inspect(self) -> None:
        while True:
            self._alarm.clear()
            began, asked = self.env, now()
            if drift.may_be_inspected(began):
                found = await self._platform.inspect(began)
                news = drift.events(self.env, Sweep(began=began, asked=asked, found=found), now())
                self.record(*news)
                if news:
                    self._news.set()
            await asyncio.sleep(_PAUSE)
            try:
                async with asyncio.timeout(1.0):
                    await self._alarm.wait()
            except TimeoutError:
                pass


def _able(seen: Observation) -> frozenset[str]:
    """The pods that get requests, and those that are ready, which a cluster's endpoints have a moment later."""
    ready = (one.id for one in seen.instances.values() if one.phase is Phase.READY and not one.ending)
    return frozenset((*seen.table, *ready))


class Attacker:
    """Somebody with a login to the cluster, who is called ``mallory``."""

    name = "mallory"

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._connection = Connection(read("", kubeconfig), random.random)
        self._namespace = namespace

    async def patch(self, kind: Kind, name: str, body: Object, subresource: str = "", manager: str = "") -> Any:
        """Change an object by a merge patch."""
        path = kind.path(self._namespace, name, subresource)
        params = {"fieldManager": manager or self.name}
        return await self._connection.ask("PATCH", path, f"patch {name}", params=params, body=body, content=MERGE)

    async def create(self, kind: Kind, body: Object) -> Any:
        """Make an object."""
        path, params = kind.path(self._namespace), {"fieldManager": self.name}
        return await self._connection.ask("POST", path, "create", params=params, body=body, content=JSON)

    async def get(self, kind: Kind, name: str) -> Any:
        """Return an object."""
        return await self._connection.ask("GET", kind.path(self._namespace, name), f"get {name}")

    async def delete(self, kind: Kind, name: str) -> None:
        """Delete an object."""
        await self._connection.ask("DELETE", kind.path(self._namespace, name), f"delete {name}")

    async def close(self) -> None:
        """Log out."""
        await self._connection.close()
