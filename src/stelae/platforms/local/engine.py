"""The engine of the local platform: instances as containers of this machine, one behind ``Engine``.

Instances belong to nobody's process: conmon holds each of them, and what there is to know about one is in
its run folder. A new engine, after a restart of the controller, sees the same.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
from anyio.to_thread import run_sync

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.release import Release
from stelae.platforms.local import record
from stelae.platforms.local.container import Containers, Roots
from stelae.platforms.local.exits import ExitWatch
from stelae.platforms.local.form import Form, Forms
from stelae.platforms.local.handle import Handle, look, open_handle
from stelae.platforms.local.inspect.guard import Guard
from stelae.platforms.local.inspect.layer_watch import Layers
from stelae.platforms.local.inspect.sweep import Inspector
from stelae.platforms.local.inventory import teardown
from stelae.platforms.local.launcher import Launcher
from stelae.platforms.local.logs import LogReader, last_texts
from stelae.platforms.local.place import (
    Place,
    cid_to_key,
    environment_folder,
    exits_folder,
    place_of,
    places,
)
from stelae.platforms.local.process import identify, send_signal
from stelae.platforms.local.rotation import LogPolicy, prune, rotate
from stelae.platforms.local.terminal import AttachedTerminal
from stelae.platforms.local.tools import shell_of
from stelae.platforms.port import (
    EngineInspection,
    EngineInstance,
    LaunchSpec,
    LogLine,
    SecretSource,
    Shell,
    Terminal,
)
from stelae.system.installation import Installation

_FOLLOW_SECONDS = 0.1
_ROTATE_SECONDS = 1.0
_ROTATE_BUSY_SECONDS = 0.05


class LocalEngine:
    """Runs instances on this machine. Implements ``stelae.platforms.port.Engine``; used from one event loop.

    *config* gives an image's OCI configuration. *cgroup_parent* is the control group, from each hierarchy's
    root, below which everything is put (by default ``/NAME``); *runtime* a path of crun or runc; *secrets* has the
    values that releases name; *machines* launches the releases that name a disk, where this machine can.
    """

    def __init__(
        self, installation: Installation, roots: Roots, config: Callable[[Digest], Mapping[str, Any]],
        *, cgroup_parent: str = "", runtime: str | None = None, logs: LogPolicy | None = None,
        secrets: SecretSource | None = None, machines: Form | None = None,
    ) -> None:  # fmt: skip
        self._installation = installation
        self._parent = cgroup_parent
        self._policy = logs or LogPolicy()
        self._containers = Containers(roots, config)
        forms = Forms(self._containers, machines)
        self._launcher = Launcher(installation, forms, cgroup_parent=cgroup_parent, runtime=runtime, secrets=secrets)
        self._layers = Layers(forms.files, forms.distrust)
        self._inspector = Inspector(installation, self._launcher.cgroups, self._layers, forms)
        self._guard: Guard | None = None
        self._handles: dict[EnvironmentId, dict[InstanceId, Handle]] = defaultdict(dict)
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._pruning = anyio.Lock()
        self._changed: list[Callable[[EnvironmentId], None]] = []
        self._alarmed: list[Callable[[EnvironmentId], None]] = []
        self._exits: ExitWatch | None = None
        self._rotating: asyncio.Task[None] | None = None

    async def ensure_network(self) -> None:
        """Make the bridge and the packet filter be there; raises Failed, Unreachable."""
        await run_sync(self._launcher.ensure_network)

    async def prepare(self, release: Release) -> None:
        """Make *release* ready to be launched: network, image verified and mounted, secrets that can be read."""
        await self.ensure_network()
        await run_sync(self._launcher.prepare, release)

    async def launch(self, spec: LaunchSpec) -> None:
        """Start the instance; one that was started already is left as it is. Raises Failed, Unreachable."""
        place = place_of(self._installation, spec.environment, spec.instance)
        async with self._locks[place.key]:
            await run_sync(self._launcher.launch, place, spec)

    async def began(self, environment: EnvironmentId, instance: InstanceId) -> bool:
        """See ``Engine.began``."""
        place = place_of(self._installation, environment, instance)
        async with self._locks[place.key]:
            return await run_sync(self._launcher.began, place)

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Engine.shell``."""
        root = await run_sync(self._containers.mount, release.image)
        return await run_sync(lambda: shell_of(root, tools=tools))

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Engine.attach``."""
        place = place_of(self._installation, environment, instance)
        return AttachedTerminal(place, self._launcher.terminal(place))

    async def stop(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """Ask the instance to end: SIGTERM to its first process."""
        self._signal(place_of(self._installation, environment, instance), signal.SIGTERM)

    async def kill(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """End the instance: SIGKILL to its first process, with which the kernel ends all of its namespace."""
        place = place_of(self._installation, environment, instance)
        async with self._locks[place.key]:
            if place.folder.is_dir():
                place.killed.touch()
                self._signal(place, signal.SIGKILL)

    async def remove(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """Take away all that the instance has, ending it first when it runs; its log is kept for a while."""
        place = place_of(self._installation, environment, instance)
        async with self._locks[place.key]:
            await run_sync(self._launcher.remove, place)
            self._drop(environment, instance)
            place.begun.unlink(missing_ok=True)
        if not self._locks[place.key].locked():  # nobody waited for it
            del self._locks[place.key]
        async with self._pruning:  # what another is deleting would look like the newest
            await run_sync(prune, self._installation, place.app, place.environment, self._policy)

    async def observe(self, environment: EnvironmentId) -> Sequence[EngineInstance]:
        """Return every instance that was launched and not removed. An instance whose conmon died runs on and
        is seen as running; its exit code, 255, tells that the true one is not known."""
        try:
            names = {path.name for path in environment_folder(self._installation, environment).iterdir()}
        except FileNotFoundError:
            names = set()
        known = self._handles[environment]
        for gone in known.keys() - names:
            self._drop(environment, gone)
        for name in sorted(names - known.keys()):
            instance = InstanceId(name)
            handle = open_handle(place_of(self._installation, environment, instance))
            if handle is not None:
                known[instance] = handle
        look(known.values(), self._launcher.cgroups)
        return [handle.seen() for handle in known.values()]

    async def inspect(
        self, environment: EnvironmentId, expected: Sequence[LaunchSpec], known: Collection[InstanceId], *,
        thorough: bool,
    ) -> EngineInspection:  # fmt: skip
        """See ``Engine.inspect``."""
        asked = time.time()
        return await run_sync(
            lambda: self._inspector.sweep(environment, expected, known, asked=asked, thorough=thorough)
        )

    async def logs(self, environment: EnvironmentId, instance: InstanceId, *, follow: bool) -> AsyncIterator[LogLine]:
        """Yield the instance's output over all files from its start; with *follow* until it has ended.
        Raises InvalidInput when there is none, not even of a removed instance."""
        place = place_of(self._installation, environment, instance)
        if not place.logs.is_dir():
            raise InvalidInput(f"no output of {instance} is kept", where=environment)
        with LogReader(place.logs, instance) as reader:
            while True:
                ended = not follow or await run_sync(_has_ended, place)
                while lines := await run_sync(reader.read):
                    for line in lines:
                        yield line
                if ended:
                    break
                await anyio.sleep(_FOLLOW_SECONDS)
            for line in reader.finish():
                yield line

    async def last_lines(self, environment: EnvironmentId, instance: InstanceId) -> tuple[str, ...]:
        """Return the last lines of the instance's output that are not blank."""
        return await run_sync(last_texts, place_of(self._installation, environment, instance).logs)

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """Have *changed* called when an instance ends; from now on output is rotated too."""
        self._changed.append(changed)
        if self._exits is None:
            exits_folder(self._installation).mkdir(parents=True, exist_ok=True)
            self._exits = ExitWatch(exits_folder(self._installation), self._ended)
            self._rotating = asyncio.get_running_loop().create_task(self._keep_logs_small())

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """See ``Engine.alarm``; from now on layers are guarded too."""
        self._alarmed.append(drifted)
        if self._guard is None:
            self._guard = Guard(self._layers, self._inspector.running_on, self._drifted)

    async def rotate(self, environment: EnvironmentId, instance: InstanceId) -> bool:
        """Start a new log file if the present one is too large; true when that happened."""
        return await run_sync(rotate, place_of(self._installation, environment, instance), self._policy)

    async def teardown(self) -> None:
        """End and remove every instance of the installation, and its network; logs stay."""
        await run_sync(teardown, self._installation, self._parent)
        for environment in list(self._handles):
            for instance in list(self._handles[environment]):
                self._drop(environment, instance)

    async def close(self) -> None:
        """Stop watching and let go of the instances, which run on."""
        if self._rotating is not None:
            self._rotating.cancel()
            with suppress(asyncio.CancelledError):
                await self._rotating
            self._rotating = None
        if self._exits is not None:
            self._exits.close()
            self._exits = None
        for known in self._handles.values():
            for handle in known.values():
                handle.close()
        self._handles.clear()
        if self._guard is not None:
            await self._guard.close()
            self._guard = None
        self._inspector.close()
        self._layers.close()
        self._launcher.close()

    def _signal(self, place: Place, number: signal.Signals) -> None:
        found = record.load(place)
        if found is not None and found.process is not None:
            send_signal(found.process, number)

    def _drop(self, environment: EnvironmentId, instance: InstanceId) -> None:
        handle = self._handles[environment].pop(instance, None)
        if handle is not None:
            handle.close()

    def _ended(self, cid: str) -> None:
        app, environment, _ = cid_to_key(cid).split("/")
        for changed in self._changed:
            changed(EnvironmentId(f"{app}/{environment}"))

    def _drifted(self, environment: EnvironmentId) -> None:
        for drifted in self._alarmed:
            drifted(environment)

    async def _keep_logs_small(self) -> None:
        while True:
            busy = await run_sync(self._rotate_all)
            await anyio.sleep(_ROTATE_BUSY_SECONDS if busy else _ROTATE_SECONDS)

    def _rotate_all(self) -> bool:
        rotated = [rotate(place, self._policy) for place in places(self._installation)]
        return any(rotated)


def _has_ended(place: Place) -> bool:
    """True when the instance writes nothing any more: removed, ended, or without its conmon."""
    if place.exit.exists() or not place.folder.is_dir():
        return True
    found = record.load(place)
    if found is None or found.conmon is None:
        return False  # being launched
    return identify(found.conmon.pid) != found.conmon
