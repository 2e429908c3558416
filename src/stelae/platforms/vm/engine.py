"""The engine of the platform ``vm``: the local engine, which launches releases with a disk as machines.

conmon and the runtime hold QEMU as they hold any instance, so output, exits, control groups, networks, restarts of
the controller and what a power-off leaves are the same. Only what makes no sense of a machine is refused here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.release import Release
from stelae.platforms.port import (
    Engine,
    EngineInspection,
    EngineInstance,
    LaunchSpec,
    LogLine,
    Shell,
    Terminal,
)

_NO_SESSIONS = (
    "there are no debug sessions on virtual machines: each runs one program, and nothing else can be started"
)


class VmEngine:
    """Implements ``stelae.platforms.port.Engine`` by *local*, which was given machines to launch."""

    def __init__(self, local: Engine) -> None:
        self._local = local

    async def prepare(self, release: Release) -> None:
        """See ``Engine.prepare``."""
        _check(release)
        await self._local.prepare(release)

    async def launch(self, spec: LaunchSpec) -> None:
        """See ``Engine.launch``."""
        _check(spec.release)
        if spec.debug is not None:
            raise Failed(_NO_SESSIONS)
        await self._local.launch(spec)

    async def began(self, environment: EnvironmentId, instance: InstanceId) -> bool:
        """See ``Engine.began``."""
        return await self._local.began(environment, instance)

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Engine.shell``: always refused."""
        raise Failed(_NO_SESSIONS)

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Engine.attach``: always refused."""
        raise Failed(_NO_SESSIONS)

    async def stop(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Engine.stop``: the machine is told, and gives its program SIGTERM."""
        await self._local.stop(environment, instance)

    async def kill(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Engine.kill``: QEMU is ended."""
        await self._local.kill(environment, instance)

    async def remove(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Engine.remove``."""
        await self._local.remove(environment, instance)

    async def observe(self, environment: EnvironmentId) -> Sequence[EngineInstance]:
        """See ``Engine.observe``."""
        return await self._local.observe(environment)

    async def inspect(
        self, environment: EnvironmentId, expected: Sequence[LaunchSpec], known: Collection[InstanceId], *,
        thorough: bool,
    ) -> EngineInspection:  # fmt: skip
        """See ``Engine.inspect``."""
        return await self._local.inspect(environment, expected, known, thorough=thorough)

    def logs(self, environment: EnvironmentId, instance: InstanceId, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Engine.logs``: its program's output, and as ``stderr`` also what its kernel warns of."""
        return self._local.logs(environment, instance, follow=follow)

    async def last_lines(self, environment: EnvironmentId, instance: InstanceId) -> tuple[str, ...]:
        """See ``Engine.last_lines``."""
        return await self._local.last_lines(environment, instance)

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """See ``Engine.watch``."""
        self._local.watch(changed)

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """See ``Engine.alarm``."""
        self._local.alarm(drifted)


def _check(release: Release) -> None:
    if release.disk is None:
        raise Failed(
            f"release {release.id} names no disk, and an instance of this environment is a machine that boots one",
            hint="deploy it again: stelae deploy",
        )
