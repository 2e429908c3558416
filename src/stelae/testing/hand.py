"""A hand that moves a platform, act by act, as the controller's loop would: it records, acts, and looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Self

from stelae.core.decide import decide
from stelae.core.evolve import evolve
from stelae.core.runs import as_instance
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId, Route
from stelae.domain.drift import Inspection
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.event import Event
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.run import Debug, Window
from stelae.domain.state import EnvironmentState
from stelae.domain.units import HOUR, Duration
from stelae.platforms.port import Capability, LogLine, Platform, Terminal

PATIENCE = 20.0
"""Seconds after which something that was waited for counts as never coming."""


FOR_EVER: Duration = 1_000_000 * HOUR
"""What a run may take here, where nothing but the platform has a clock."""


class Hand:
    """Acts on *environment* of *platform*; ``env`` is its record, folded like the controller's.

    Each time limit is multiplied by *patience*.
    """

    def __init__(
        self, platform: Platform, environment: EnvironmentId, releases: Sequence[Release],
        choice: PlatformChoice | None = None, patience: float = 1.0,
    ) -> None:  # fmt: skip
        self._platform = platform
        self.patience = patience
        app, _, name = environment.partition("/")
        self.env = EnvironmentState(id=environment, releases={item.id: item for item in releases})
        applied = Environment(app=app, name=name, processes={"web": 1}, platform=choice or PlatformChoice())
        self._record(ev.EnvironmentApplied(environment=applied))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the platform says that it can do."""
        assert self.env.config is not None
        return self._platform.on(self.env.config.platform).capabilities

    def within(self, seconds: float | None = None) -> asyncio.Timeout:
        """Return a block that may take *seconds* (``PATIENCE`` when not said), and longer on a slow machine."""
        return asyncio.timeout((PATIENCE if seconds is None else seconds) * self.patience)

    def moved_to(self, platform: Platform) -> Self:
        """Return a hand on *platform* with this one's record."""
        hand = copy(self)
        hand._platform = platform
        return hand

    def _record(self, event: Event, at: int = 0) -> None:
        self.env = evolve(self.env, event, at)

    async def launch(self, name: InstanceId, release: Release) -> Action:
        """Prepare *release* and launch its process ``web`` as *name*."""
        await self._platform.prepare(release)
        return await self.act(Verb.LAUNCH, name, release)

    async def start_run(self, name: InstanceId, release: Release) -> Action:
        """Launch the program of the process ``web`` of *release* as the run *name*; return the act."""
        return await self.carry_out(self.intend_run(name, release), release)

    def intend_run(self, name: InstanceId, release: Release, debug: Debug | None = None) -> Action:
        """Record the request of a run and the intent of its launch; return the act."""
        web = release.process("web")
        assert web is not None
        asked = ev.RunRequested(run=name, release=release.id, command=web.command, timeout=FOR_EVER, debug=debug)
        self._record(asked)
        action = Action(
            verb=Verb.LAUNCH, number=self.env.actions + 1, instance=name, release=release.id,
            process=self.env.runs[name].label,
        )  # fmt: skip
        self._record(ev.ActionIntended(action=action))
        return action

    async def debug(self, name: InstanceId, release: Release, window: Window | None = None) -> Terminal:
        """Launch the program of the process ``web`` of *release* as the debug session *name*; return its terminal."""
        action = self.intend_run(name, release, Debug(instance=InstanceId("web-1"), process="web", window=window))
        await self.carry_out(action, release)
        return await self._platform.attach(self.env.id, name)

    async def carry_out(self, action: Action, release: Release) -> Action:
        """Do an act that was intended, and record its outcome."""
        await self._platform.prepare(release)
        await self._platform.apply(action, self.env)
        self._record(ev.ActionDone(number=action.number))
        return action

    async def began(self, action: Action) -> bool:
        """What the platform says of the run that *action* launches."""
        return await self._platform.began(action, self.env)

    async def act(
        self, verb: Verb, name: InstanceId | None = None, release: Release | None = None,
        table: Mapping[InstanceId, int] | None = None, routes: Sequence[Route] = (),
    ) -> Action:  # fmt: skip
        """Record, carry out and record the outcome of one act; return it."""
        assert self.env.config is not None
        action = Action(verb=verb, number=self.env.actions + 1)
        if verb is Verb.ROUTE:
            action = replace(action, table=table or {}, hosts=self.env.config.routed_hosts, routes=tuple(routes))
        elif name is not None:
            action = replace(action, instance=name)
        if release is not None:
            action = replace(action, release=release.id, process="web")
        return await self._do(action)

    async def _do(self, action: Action) -> Action:
        self._record(ev.ActionIntended(action=action))
        await self._platform.apply(action, self.env)
        self._record(ev.ActionDone(number=action.number))
        return action

    async def inspect(self, *, thorough: bool = False) -> Inspection:
        """Return what an inspection finds; nothing of it is recorded."""
        return await self._platform.inspect(self.env, thorough=thorough)

    async def look(self) -> Observation:
        """Observe, and record the facts."""
        seen = await self._platform.observe(self.env)
        for event in decide(self.env, seen, seen.as_of).events:
            if not isinstance(event, ev.AllocationSet):
                self._record(event, seen.as_of)
        return seen

    async def until(self, name: InstanceId, phase: Phase) -> Seen:
        """Look until *name* is in *phase*; return it as it is seen then."""
        seen = await self.until_seen(
            lambda seen: name in seen.instances and seen.instances[name].phase is phase, f"{name} is {phase}"
        )
        return seen.instances[name]

    async def until_complete(self) -> Observation:
        """Look until an observation is complete."""
        return await self.until_seen(lambda seen: seen.complete, "an observation is complete")

    async def until_drained(self, name: InstanceId) -> None:
        """Look until nothing is open to *name*."""
        await self.until_seen(lambda seen: seen.instances[name].connections == 0, f"nothing is open to {name}")

    async def until_said(self, name: InstanceId, text: str) -> None:
        """Wait until *name* has written the line *text*."""
        async with self.within():
            while True:
                if text in [line.text for line in await self.output(name)]:
                    return
                await asyncio.sleep(0.02)

    async def output(self, name: InstanceId, *, follow: bool = False) -> list[LogLine]:
        """Return the output of *name*, with *follow* up to its end."""
        run = self.env.runs.get(name)
        instance = self.env.instances[name] if run is None else as_instance(run)
        return [line async for line in self._platform.logs(self.env.id, instance, follow=follow)]

    async def until_seen(self, true: Callable[[Observation], bool], what: str) -> Observation:
        """Look until it is *true* of what is seen; return that."""
        loop = asyncio.get_running_loop()
        patience = PATIENCE * self.patience
        end = loop.time() + patience
        while not true(seen := await self.look()):
            if loop.time() > end:
                raise AssertionError(f"not within {patience:g} s: {what}; there is {seen}")
            await asyncio.sleep(0.02)
        return seen
