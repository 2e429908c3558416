"""The simulated platform of sets: the production port over a simulated cluster, in the time of its world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from copy import copy

from stelae.core import sets
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.drift import Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, Unreachable
from stelae.domain.observation import Observation, Phase
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant
from stelae.platforms.port import Capability, LogLine, SecretSource, Shell, Terminal
from stelae.platforms.secret_values import values_of
from stelae.testing.cluster import Cluster
from stelae.testing.secrets import said_of
from stelae.testing.simulated import NO_ANSWER


class World:
    """A cluster with one environment, which controllers come to, one after the other. ``silent`` while it does not
    answer. ``said`` is what each instance and run wrote."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.controllers = 0
        self.silent = False
        self.said: dict[InstanceId, list[tuple[Instant, str]]] = {}


class SimulatedSets:
    """Implements ``Platform`` for one controller of *world*; *clock* gives the time."""

    def __init__(self, world: World, clock: Callable[[], Instant], secrets: SecretSource) -> None:
        self._world = world
        self._clock = clock
        self._secrets = secrets
        world.controllers += 1
        self._controller = world.controllers
        self._can = {Capability.SECRETS}

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See ``Platform.capabilities``."""
        return frozenset(self._can)

    def on(self, choice: PlatformChoice) -> SimulatedSets:
        """See ``Platform.on``."""
        found = copy(self)
        found._can = self._can | (
            {Capability.EXACT_WEIGHTS, Capability.ROUTES} if choice.exact else {Capability.RATIO}
        )
        return found

    async def prepare(self, release: Release) -> None:
        """See ``Platform.prepare``."""
        self._reach()
        values_of(self._secrets, release)

    async def observe(self, env: EnvironmentState) -> Observation:
        """See ``Platform.observe``."""
        self._reach()
        seen = self._world.cluster.observe(env, self._clock())
        for view in seen.instances.values():
            if view.release:
                self._says(view.id, env.releases[view.release])
        return seen

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        """See ``Platform.actions``."""
        return sets.actions(target, env, seen)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        """See ``Platform.apply``."""
        self._reach()
        if self._controller < self._world.controllers:
            raise Conflict("another controller has taken over")
        if action.verb in (Verb.ENSURE_SET, Verb.LAUNCH):
            values_of(self._secrets, env.releases[action.release])
        self._world.cluster.carry_out(action, env, self._clock())
        if action.verb is Verb.LAUNCH:
            self._says(action.instance, env.releases[action.release])

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        """See ``Platform.began``."""
        self._reach()
        return action.instance in self._world.cluster.runs

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Platform.shell``."""
        raise Failed("a simulated cluster has no debug sessions")

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Platform.attach``."""
        raise Failed("a simulated cluster has no debug sessions")

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        """See ``Platform.inspect``."""
        self._reach()
        return Inspection(as_of=self._clock(), inspected=frozenset(env.instances))

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.alarm``."""

    async def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Platform.logs``."""
        self._reach()
        if instance.id not in self._world.said:
            raise InvalidInput(f"no output of {instance.id} is kept", where=environment)
        for at, text in self._world.said[instance.id]:
            yield LogLine(instance=instance.id, at=at, stream="stdout", text=text)
        while follow and self._runs(instance.id):  # noqa: ASYNC110 - time is what passes here
            await asyncio.sleep(0.1)

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.watch``."""

    async def close(self) -> None:
        """See ``Platform.close``."""

    def _says(self, name: InstanceId, release: Release) -> None:
        """Have an instance or a run say what it says once it begins."""
        if name not in self._world.said:
            lines = ["begins", *said_of(release, values_of(self._secrets, release))]
            self._world.said[name] = [(self._clock(), text) for text in lines]

    def _reach(self) -> None:
        if self._world.silent:
            raise Unreachable(NO_ANSWER)

    def _runs(self, name: InstanceId) -> bool:
        now = self._clock()
        self._world.cluster.age_to(now)
        run = self._world.cluster.runs.get(name)
        if run is not None:
            return run.ended is None
        pods = (pod for pod in self._world.cluster.pods.values() if pod.incarnation == name)
        return any(pod.phase(now) is not Phase.EXITED for pod in pods)
