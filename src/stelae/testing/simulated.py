"""The simulated platform: the production port over a simulated machine, with faults on the way.

Each controller attaches one of its own to the machine. From then on what an earlier controller sends is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from stelae.core import converge
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.drift import Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, Unreachable
from stelae.domain.observation import Observation
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant
from stelae.platforms.port import Capability, LogLine, SecretSource, Shell, Terminal
from stelae.testing.drifting import inspected
from stelae.testing.faults import ActFault, Faults, LookFault
from stelae.testing.machine import Machine
from stelae.testing.terminal import SimulatedTerminal

NO_ANSWER = "the simulated platform does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """An observation, and which of its instances had been asked to end when it was made."""

    observation: Observation
    stopping: frozenset[InstanceId]


class Witness:
    """Is shown what a controller sees and does. This one looks away; ``stelae.testing.laws`` has one that judges."""

    def looked(self, env: EnvironmentState, look: Look) -> None:
        """A controller has just observed *env*."""

    def acted(self, action: Action, env: EnvironmentState, look: Look | None) -> None:
        """*action* was just done, by a controller whose last look at *env* was *look* (None: it had none)."""


class SimulatedPlatform:
    """Implements ``Platform`` for one controller of *machine*; *clock* gives the time of its observations."""

    def __init__(
        self, machine: Machine, faults: Faults, clock: Callable[[], Instant], witness: Witness | None = None,
        secrets: SecretSource | None = None,
    ) -> None:  # fmt: skip
        self._secrets = secrets
        self._machine = machine
        self._faults = faults
        self._clock = clock
        self._witness = witness or Witness()
        self._changed: list[Callable[[EnvironmentId], None]] = []
        self._alarmed: list[Callable[[EnvironmentId], None]] = []
        machine.controllers += 1
        self._controller = machine.controllers
        self.dead = False
        self.looks: dict[EnvironmentId, Look] = {}
        self._inspections: dict[EnvironmentId, Inspection] = {}
        machine.listeners.append(self._happened)
        machine.alarms.append(self._drifted)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See ``Platform.capabilities``."""
        can = {
            Capability.EXACT_WEIGHTS,
            Capability.OWN_INSTANCE_IDS,
            Capability.ROUTES,
            Capability.TERMINALS,
            Capability.TRAFFIC_COUNTS,
        }
        return frozenset({*can, Capability.SECRETS} if self._secrets is not None else can)

    def on(self, choice: PlatformChoice) -> SimulatedPlatform:
        """See ``Platform.on``."""
        return self

    async def prepare(self, release: Release) -> None:
        """See ``Platform.prepare``."""
        await self._reach()

    async def observe(self, env: EnvironmentState) -> Observation:
        """See ``Platform.observe``."""
        await self._reach()
        if self._faults.holds(LookFault.SLOW):
            self._faults.count(LookFault.SLOW)
            await asyncio.sleep(0.2)
            await self._reach()
        before = self.looks.get(env.id)
        if before is not None and self._faults.holds(LookFault.STALE):
            self._faults.count(LookFault.STALE)
            return before.observation
        look = self.look_now(env)
        instances = look.observation.instances
        if instances and self._faults.holds(LookFault.INCOMPLETE):
            self._faults.count(LookFault.INCOMPLETE)
            known = dict(list(instances.items())[:-1])
            look = replace(look, observation=replace(look.observation, complete=False, instances=known))
        if look.observation.traffic and self._faults.holds(LookFault.UNCOUNTED):
            self._faults.count(LookFault.UNCOUNTED)
            look = replace(look, observation=replace(look.observation, traffic={}))
        self.looks[env.id] = look
        self._witness.looked(env, look)
        return look.observation

    def look_now(self, env: EnvironmentState) -> Look:
        """Return what is true of *env* now, without any fault."""
        instances, table = self._machine.look(env.id)
        stopping = frozenset(name for name, thing in self._machine.sites[env.id].things.items() if thing.stopping)
        seen = Observation(
            as_of=self._clock(), applied=env.applied, instances=instances, table=table,
            traffic=self._machine.counted(env.id),
        )  # fmt: skip
        return Look(observation=seen, stopping=stopping)

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        """See ``Platform.actions``."""
        return converge.actions(target, env, seen)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        """See ``Platform.apply``."""
        await self._reach()
        ghost = self._faults.ghost()
        if ghost is not None:
            asyncio.get_running_loop().call_later(ghost, self._arrives_late, action, env)
            await _for_ever()
        fault, seconds = self._faults.next_act()
        if fault is ActFault.FAILED:
            raise Failed("the simulated platform cannot do this")
        if fault is ActFault.NOT_DONE:
            raise Unreachable(NO_ANSWER)
        if fault is ActFault.LATE_ACT:
            await asyncio.sleep(seconds)
            await self._reach()
        self._do(action, env)
        self._witness.acted(action, env, self.looks.get(env.id))
        if fault is ActFault.DUPLICATE:
            asyncio.get_running_loop().call_later(seconds, self._arrives_late, action, env)
        elif fault is ActFault.LATE_REPLY:
            await asyncio.sleep(seconds)
            await self._reach()
        elif fault is ActFault.LOST_REPLY:
            raise Unreachable(NO_ANSWER)

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        """See ``Platform.began``. What was sent before and has not arrived is refused from now on."""
        await self._reach()
        return self._machine.sites[env.id].begun[action.instance] > 0

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Platform.shell``."""
        await self._reach()
        return Shell(command=("sh",), lent=tools)

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Platform.attach``."""
        await self._reach()
        if not self._runs(environment, instance):
            raise Failed(f"{instance} cannot be talked to: it is not there")
        return SimulatedTerminal(self._machine, environment, instance)

    async def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Platform.logs``."""
        lines = self._machine.site(environment).logs.get(instance.id)
        if lines is None:
            raise InvalidInput(f"no output of {instance.id} is kept", where=environment)
        for at, text in lines:
            yield LogLine(instance=instance.id, at=at, stream="stdout", text=text)
        while follow and self._runs(environment, instance.id):  # noqa: ASYNC110 - time is what passes here
            await asyncio.sleep(0.1)

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.watch``."""
        self._changed.append(changed)

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        """See ``Platform.inspect``."""
        await self._reach()
        as_of = self._clock()
        await asyncio.sleep(1.0 if self._faults.holds(LookFault.SLOW) else 0.01)  # what happens meanwhile is seen
        await self._reach()
        before = self._inspections.get(env.id)
        if before is not None and self._faults.holds(LookFault.STALE):
            return before
        found = inspected(self._machine, env, as_of, blind=self._faults.holds(LookFault.INCOMPLETE))
        self._inspections[env.id] = found
        return found

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.alarm``."""
        self._alarmed.append(drifted)

    async def close(self) -> None:
        """See ``Platform.close``."""
        self._changed.clear()
        self._alarmed.clear()
        self._machine.listeners.remove(self._happened)
        self._machine.alarms.remove(self._drifted)

    def kill(self) -> None:
        """End the controller's part of it: it gets no answer and hears of nothing any more."""
        self.dead = True
        self._machine.listeners.remove(self._happened)
        self._machine.alarms.remove(self._drifted)

    async def _reach(self) -> None:
        if self.dead:
            await _for_ever()
        if self._faults.holds(LookFault.UNAVAILABLE):
            self._faults.count(LookFault.UNAVAILABLE)
            raise Unreachable(NO_ANSWER)

    def _do(self, action: Action, env: EnvironmentState) -> None:
        """The fence: only the last controller acts, and no number is used for two acts."""
        numbers = self._machine.numbers[env.id]
        if self._controller < self._machine.controllers or not numbers.admits(action, self._controller):
            self._faults.count("fenced")
            raise Conflict(f"action {action.number} of {env.id} is of a controller that was replaced")
        self._machine.carry_out(action, env, self._values(action, env))
        numbers.note(action, self._controller)

    def _values(self, action: Action, env: EnvironmentState) -> dict[str, bytes]:
        """The secrets of what *action* launches; raises Failed when one cannot be read."""
        there = action.instance in self._machine.sites[env.id].things
        if self._secrets is None or action.verb is not Verb.LAUNCH or there:
            return {}
        versions = env.releases[action.release].secrets
        return {name: self._secrets.read(env.id, name, number) for name, number in versions.items()}

    def _arrives_late(self, action: Action, env: EnvironmentState) -> None:
        numbers = self._machine.numbers[env.id]
        mine = self._controller == self._machine.controllers
        if mine and action.number < numbers.highest and action.number in numbers.done:
            self._faults.count("outdated request")
            return
        if action.verb is Verb.LAUNCH and self._machine.sites[env.id].begun[action.instance]:
            self._faults.count("repeated launch of a run")
            return  # a program that ran is not started again, whatever arrives
        try:
            self._do(action, env)
        except (Conflict, Failed):
            return

    def _runs(self, environment: EnvironmentId, instance: InstanceId) -> bool:
        thing = self._machine.site(environment).things.get(instance)
        return thing is not None and thing.ended is None

    def _happened(self, environment: EnvironmentId) -> None:
        if self._changed and self._faults.holds(LookFault.MISSED):
            self._faults.count(LookFault.MISSED)
            return
        for changed in self._changed:
            changed(environment)

    def _drifted(self, environment: EnvironmentId) -> None:
        if self._faults.holds(LookFault.MISSED):
            self._faults.count(LookFault.MISSED)
            return
        for alarmed in self._alarmed:
            alarmed(environment)


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
