"""One platform for the controller where there are several: each environment is held by the one that it names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from stelae.domain.action import Action
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.drift import Inspection
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.errors import Failed
from stelae.domain.observation import Observation
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, Instance
from stelae.platforms.port import Capability, LogLine, Platform, Shell, Terminal

Watcher = Callable[[EnvironmentId], None]


class Platforms:
    """Implements ``Platform``. *choice* says what an environment names; a platform is made by its *makers* when it is
    needed first: what nobody uses is not even imported."""

    def __init__(
        self, choice: Callable[[EnvironmentId], PlatformChoice], makers: Mapping[PlatformKind, Callable[[], Platform]]
    ) -> None:
        self._choice = choice
        self._makers = makers
        self._made: dict[PlatformKind, Platform] = {}
        self._watchers: list[Watcher] = []
        self._alarms: list[Watcher] = []

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See ``Platform.capabilities``: what all that are there can do."""
        found = [platform.capabilities for platform in self._made.values()]
        return frozenset.intersection(*found) if found else frozenset()

    def on(self, choice: PlatformChoice) -> Platform:
        """See ``Platform.on``; raises Failed for a kind that is not there."""
        platform = self._made.get(choice.kind)
        if platform is None:
            make = self._makers.get(choice.kind)
            if make is None:
                raise Failed(f"this controller has no platform of kind {choice.kind}")
            platform = self._made[choice.kind] = make()
            for changed in self._watchers:
                platform.watch(changed)
            for drifted in self._alarms:
                platform.alarm(drifted)
        return platform.on(choice)

    def _of(self, environment: EnvironmentId) -> Platform:
        return self.on(self._choice(environment))

    def _for(self, release: Release) -> Platform:
        return self._of(environment_id(release.app, release.environment))

    async def prepare(self, release: Release) -> None:
        """See ``Platform.prepare``."""
        await self._for(release).prepare(release)

    async def observe(self, env: EnvironmentState) -> Observation:
        """See ``Platform.observe``."""
        return await self._of(env.id).observe(env)

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        """See ``Platform.actions``."""
        return self._of(env.id).actions(target, env, seen)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        """See ``Platform.apply``."""
        await self._of(env.id).apply(action, env)

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        """See ``Platform.began``."""
        return await self._of(env.id).began(action, env)

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Platform.shell``."""
        return await self._for(release).shell(release, tools=tools)

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Platform.attach``."""
        return await self._of(environment).attach(environment, instance)

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        """See ``Platform.inspect``."""
        return await self._of(env.id).inspect(env, thorough=thorough)

    def alarm(self, drifted: Watcher) -> None:
        """See ``Platform.alarm``."""
        self._alarms.append(drifted)
        for platform in self._made.values():
            platform.alarm(drifted)

    def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Platform.logs``."""
        return self._of(environment).logs(environment, instance, follow=follow)

    def watch(self, changed: Watcher) -> None:
        """See ``Platform.watch``."""
        self._watchers.append(changed)
        for platform in self._made.values():
            platform.watch(changed)

    async def close(self) -> None:
        """See ``Platform.close``."""
        for platform in self._made.values():
            await platform.close()
