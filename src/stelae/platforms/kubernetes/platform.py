"""The platform of clusters: sets of instances in namespaces, which Kubernetes itself launches and ends."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from stelae.core import replacing, sets
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.digest import Digest
from stelae.domain.drift import Inspection
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.observation import Exit, Observation
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant
from stelae.platforms.kubernetes import apply, belonging, debugging, kinds, logs, names, observe, pods, runs, traffic
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.ground import Ground, Push, Supplies
from stelae.platforms.kubernetes.inspect.inspector import LED, Inspector
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.reasons import with_reasons
from stelae.platforms.kubernetes.usage import Usage
from stelae.platforms.port import Capability, LogLine, SecretSource, Shell, Terminal

log = structlog.get_logger(__name__)

Place = tuple[str, str]
"""A context and a namespace."""

_FIRST = 10.0  # seconds that a look waits for the first lists of a namespace
_PATIENCE = 1.0  # and for watches that were interrupted


class KubernetesPlatform:
    """Implements ``Platform``. *installation* is the label of all that it makes; *connect* gives the cluster of a
    context and a namespace, and *choice* says which an environment is in. Each act is done inside a *fence*, which
    raises Conflict when another controller has taken over."""

    def __init__(
        self, installation: str, connect: Callable[[str, str], Cluster], secrets: SecretSource | None, push: Push,
        config: Callable[[Digest], Mapping[str, Any]], choice: Callable[[EnvironmentId], PlatformChoice],
        clock: Callable[[], Instant], fence: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        self._installation = installation
        self._connect = connect
        self._supplies = Supplies(push=push, config=config, secrets=secrets)
        self._choice = choice
        self._clock = clock
        self._fence = fence
        self._clusters: dict[Place, Cluster] = {}
        self._listed: set[Cluster] = set()
        self._inspectors: dict[Cluster, Inspector] = {}
        self._usage: dict[Cluster, Usage] = {}
        self._watchers: list[Callable[[EnvironmentId], None]] = []
        self._alarms: list[Callable[[EnvironmentId], None]] = []
        self._ended: defaultdict[EnvironmentId, dict[str, Exit]] = defaultdict(dict)
        self._beside: set[asyncio.Task[None]] = set()
        self._can = {Capability.SECRETS, Capability.TERMINALS}

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See ``Platform.capabilities``: of all choices, or of the one that ``on`` was given."""
        return frozenset(self._can)

    def on(self, choice: PlatformChoice) -> KubernetesPlatform:
        """See ``Platform.on``."""
        found = copy(self)
        by = {Capability.EXACT_WEIGHTS, Capability.ROUTES} if choice.gateway else {Capability.RATIO}
        found._can = self._can | by
        cluster = self._clusters.get((choice.context, choice.namespace))
        if cluster is None or not self._usage[cluster].problem:
            found._can.add(Capability.CPU_TIMES)
        return found

    async def prepare(self, release: Release) -> None:
        """See ``Platform.prepare``."""
        choice = self._choice(environment_id(release.app, release.environment))
        await self._supplies.push(release, choice)
        await self._supplies.values(release)

    async def observe(self, env: EnvironmentState) -> Observation:
        """See ``Platform.observe``."""
        ground = await self._ground(env)
        await self._synced(ground.cluster)
        cache, ended = ground.cluster.cache, self._ended[env.id]
        found = observe.observation(cache, ground.place(), env, self._clock(), ended)
        for pod in observe.done_with(cache, env):
            self._clear(ground.cluster, pod)
        inspector = self._inspectors[ground.cluster]
        found = replace(
            found, edited=inspector.edited(env.id), strays=found.strays & inspector.strays(env.id),
            weights=None if inspector.is_misled(env.id) else found.weights,
        )  # fmt: skip
        if env.config is not None and any(each.target_cpu for each in env.config.scaling.values()):
            used = self._usage[ground.cluster].of(found.instances, cache.pods(env.id), found.as_of)
            found = replace(found, instances=used)
        for gone in ended.keys() - observe.holders(cache, env):
            del ended[gone]
        return await with_reasons(ground.cluster, env, found)

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        """See ``Platform.actions``."""
        return sets.actions(target, env, seen)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        """See ``Platform.apply``."""
        with self._fence():
            await self._apply(action, await self._ground(env))

    async def _apply(self, action: Action, ground: Ground) -> None:
        await ground.cluster.synced()  # what is there already decides what is to be done
        match action.verb:
            case Verb.ENSURE_SET:
                await apply.ensure(ground, action)
                self._inspectors[ground.cluster].mended_set(ground.env.id, (action.release, action.process))
            case Verb.SET_TRAFFIC:
                await traffic.share(ground, action)
                self._inspectors[ground.cluster].mended_traffic(ground.env.id)
            case Verb.REMOVE_SET:
                await apply.remove(ground, action)
            case Verb.LAUNCH:
                await runs.launch(ground, action)
            case Verb.STOP:
                await runs.stop(ground, action.instance)
            case Verb.KILL:
                await runs.kill(ground, action.instance)
            case Verb.REMOVE if action.instance not in ground.env.runs:
                await belonging.remove_stray(ground.cluster, ground.env.id, action.instance)
            case Verb.REMOVE:
                await runs.remove(ground, action.instance)
            case _:
                raise Failed(f"a cluster does nothing that is called {action.verb}")

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        """See ``Platform.began``."""
        return await runs.began(await self._ground(env), env.runs[action.instance])

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Platform.shell``."""
        return debugging.shell(tools=tools)

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Platform.attach``."""
        cluster = await self._cluster(self._choice(environment))
        await self._synced(cluster)
        return await debugging.attach(cluster, environment, instance)

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        """See ``Platform.inspect``."""
        ground, as_of = await self._ground(env), self._clock()
        await self._synced(ground.cluster)
        return await self._inspectors[ground.cluster].inspect(ground, as_of, thorough=thorough)

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.alarm``."""
        self._alarms.append(drifted)

    async def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Platform.logs``."""
        cluster = await self._cluster(self._choice(environment))
        await self._synced(cluster)
        async for line in logs.lines(cluster, environment, instance.id, follow=follow):
            yield line

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.watch``."""
        self._watchers.append(changed)

    async def close(self) -> None:
        """See ``Platform.close``."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        clusters = list(self._clusters.values())
        await asyncio.gather(*(usage.close() for usage in self._usage.values()))
        self._usage.clear()
        self._clusters.clear()
        self._listed.clear()
        self._inspectors.clear()
        for cluster in clusters:
            await cluster.close()

    async def _ground(self, env: EnvironmentState) -> Ground:
        choice = env.config.platform if env.config is not None else self._choice(env.id)
        cluster = await self._cluster(choice)
        inspector = self._inspectors[cluster]
        wrong, right = inspector.wrong(env.id), replacing.puts_right(env)
        return Ground(
            cluster=cluster, installation=self._installation, choice=choice, env=env, supplies=self._supplies,
            wrong=wrong if right else frozenset(named for named in wrong if named[0] in LED),
            edited=inspector.edited(env.id) if right else frozenset(), mend=partial(inspector.mend, env.id),
        )  # fmt: skip

    async def _cluster(self, choice: PlatformChoice) -> Cluster:
        place = (choice.context, choice.namespace)
        cluster = self._clusters.get(place)
        if cluster is None:
            cluster = self._clusters[place] = self._connect(*place)
            self._inspectors[cluster] = Inspector(cluster)
            self._usage[cluster] = Usage(cluster, names.selector(self._installation))
            cluster.watch(lambda environment: self._changed(cluster, environment))
        await cluster.start()
        return cluster

    async def _synced(self, cluster: Cluster) -> None:
        """Return when what is known of *cluster* is fresh; raises Unreachable when it is not soon."""
        await cluster.synced(_PATIENCE if cluster in self._listed else _FIRST)
        self._listed.add(cluster)

    def _changed(self, cluster: Cluster, environment: EnvironmentId) -> None:
        """Remember how the pods of runs that are being deleted ended, because with that they disappear."""
        for pod in cluster.cache.pods(environment):
            name = observe.run_of(pod)
            if name and pods.is_ending(pod):
                exit_ = pods.of_run(pod, name).exit
                if exit_ is not None and exit_.code >= 0:
                    self._ended[environment][observe.holder_of(pod)] = exit_
        self._inspectors[cluster].changed(environment)
        for told in (*self._watchers, *self._alarms):
            told(environment)

    def _clear(self, cluster: Cluster, pod: Object) -> None:
        """Delete a pod in which nothing runs any more, beside all else, as Kubernetes itself does late."""

        async def delete() -> None:
            metadata = pod["metadata"]
            try:
                with self._fence():
                    await cluster.delete(kinds.POD, metadata["name"], uid=metadata["uid"])
            except StelaeError as error:
                log.warning("pod.stays", pod=metadata["name"], problem=str(error))

        task = asyncio.create_task(delete())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
