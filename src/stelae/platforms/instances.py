"""The platform of single instances: one implementation over an engine, a router and a prober.

``local`` and ``vm`` use it; every later platform that starts single instances only has to provide the two ports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from stelae.core import converge, jobs
from stelae.core.target import given_up_at
from stelae.core.traffic import entry
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.drift import Finding, Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, StelaeError, Unreachable
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release, ReleaseId
from stelae.domain.run import Run
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import SECOND, Instant
from stelae.platforms.port import (
    Capability,
    Engine,
    EngineInstance,
    LaunchSpec,
    LogLine,
    RouteEntry,
    Router,
    RouterView,
    Shell,
    Terminal,
)
from stelae.platforms.probe import Prober

SOON = SECOND
"""How long before an instance is given up its output is looked at, so that no decision comes before the look."""

_USUAL = frozenset(
    {
        Capability.CPU_TIMES,
        Capability.EXACT_WEIGHTS,
        Capability.OWN_INSTANCE_IDS,
        Capability.ROUTES,
        Capability.SECRETS,
        Capability.TERMINALS,
        Capability.TRAFFIC_COUNTS,
    }
)

Key = tuple[EnvironmentId, InstanceId]


class InstancePlatform:
    """Implements ``Platform`` over *engine*, *router* and *prober*; *clock* gives the time of an observation.

    Each act is done inside a *fence*, which raises Conflict when another controller has taken over. *lacks* is what
    *engine* cannot do of what others can.
    """

    def __init__(
        self, engine: Engine, router: Router, prober: Prober, clock: Callable[[], Instant],
        fence: Callable[[], AbstractContextManager[None]] = nullcontext, lacks: Collection[Capability] = (),
    ) -> None:  # fmt: skip
        self._engine = engine
        self._router = router
        self._prober = prober
        self._clock = clock
        self._fence = fence
        self._lacks = frozenset(lacks)
        self._prepared: set[ReleaseId] = set()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See ``Platform.capabilities``: what the ports demand of each engine and router, but what is lacking."""
        return _USUAL - self._lacks

    def on(self, choice: PlatformChoice) -> InstancePlatform:
        """See ``Platform.on``."""
        return self

    async def prepare(self, release: Release) -> None:
        """See ``Platform.prepare``."""
        await self._engine.prepare(release)
        self._prepared.add(release.id)

    async def observe(self, env: EnvironmentState) -> Observation:
        """See ``Platform.observe``. What is looked at here is never older than the last act in *env*, because one
        controller carries out one environment's actions and looks only in between; a removal that goes on
        meanwhile is of an instance that has ended, of which nothing new can be seen."""
        as_of = self._clock()
        running = await self._engine.observe(env.id)
        view = await self._router.observe(env.id)
        instances = {found.id: await self._told(env, self._seen(env, found, view), as_of) for found in running}
        return Observation(
            as_of=as_of,
            applied=env.applied,
            complete=not any(self._adopted_unasked(env, seen) for seen in instances.values()),
            instances=instances,
            table=view.table,
            traffic=view.traffic,
        )

    def _adopted_unasked(self, env: EnvironmentState, seen: Seen) -> bool:
        """True for an instance that was ready before this controller started and has not been probed yet."""
        record = env.instances.get(seen.id)
        return seen.phase is Phase.STARTING and record is not None and record.ready_at is not None

    def _seen(self, env: EnvironmentState, found: EngineInstance, view: RouterView) -> Seen:
        key = (env.id, found.id)
        connections = view.connections.get(found.id, 0)
        if not found.running:
            self._prober.forget(key)
            return Seen(id=found.id, phase=Phase.EXITED, connections=connections, exit=found.exit)
        record = env.instances.get(found.id)
        process = env.releases[record.release].process(record.process) if record else None
        if process is None:
            return Seen(id=found.id, phase=Phase.STARTING, connections=connections, address=found.address)
        self._prober.watch(key, process, found.address)
        state = self._prober.state(key)
        was_ready = state.ever or (record is not None and record.ever_ready)
        phase = Phase.READY if state.ready else Phase.UNREADY if was_ready and state.problem else Phase.STARTING
        return Seen(
            id=found.id, phase=phase, connections=connections, address=found.address, problem=state.problem,
            cpu=found.cpu,
        )  # fmt: skip

    async def _told(self, env: EnvironmentState, seen: Seen, as_of: Instant) -> Seen:
        """Add the end of its output to a candidate that is about to be given up: the reason often stands there."""
        record, rollout = env.instances.get(seen.id), env.rollout
        if record is None or rollout is None or record.release != rollout.candidate:
            return seen
        limit = given_up_at(env, record)
        if seen.phase is Phase.UNREADY or (limit is not None and limit - SOON <= as_of):
            return replace(seen, last_lines=await self._engine.last_lines(env.id, seen.id))
        return seen

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        """See ``Platform.actions``."""
        return converge.actions(target, env, seen)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        """See ``Platform.apply``."""
        with self._fence():
            await self._apply(action, env)

    async def _apply(self, action: Action, env: EnvironmentState) -> None:
        if action.verb is Verb.LAUNCH:
            await self._launch(action, env)
        elif action.verb is Verb.ROUTE:
            await self._route(action, env)
        elif action.verb is Verb.STOP:
            await self._engine.stop(env.id, action.instance)
        elif action.verb is Verb.KILL:
            await self._engine.kill(env.id, action.instance)
        else:
            self._prober.forget((env.id, action.instance))
            await self._engine.remove(env.id, action.instance)
            await self._router.forget(env.id, action.instance)

    async def _launch(self, action: Action, env: EnvironmentState) -> None:
        release = env.releases[action.release]
        run = env.runs.get(action.instance)
        process = release.process(action.process) if run is None else jobs.process_of(release, run)
        if process is None:
            raise Failed(f"release {action.release} has no process {action.process}")
        if release.id not in self._prepared:  # deployed before this controller started
            await self.prepare(release)
        spec = LaunchSpec(
            environment=env.id, instance=action.instance, release=release, process=process, once=run is not None,
            debug=run.debug if run is not None else None, limit=run.timeout if run is not None else 0,
        )  # fmt: skip
        try:
            await self._engine.launch(spec)
        except StelaeError:
            self._prepared.discard(release.id)  # perhaps its root is not mounted any more: look again next time
            raise

    async def _route(self, action: Action, env: EnvironmentState) -> None:
        addresses = {found.id: found.address for found in await self._engine.observe(env.id) if found.running}
        entries = []
        for name, weight in action.table.items():
            record = env.instances.get(name)
            process = entry(env.releases[record.release]) if record else None
            if record is None or name not in addresses or process is None or process.port is None:
                # It ended since it was observed: leaving it out is right, and the next look says so.
                continue
            entry_ = RouteEntry(
                instance=name, address=addresses[name], port=process.port, weight=weight, release=record.release
            )
            entries.append(entry_)
        await self._router.route(env.id, entries, action.hosts, action.routes)

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        """See ``Platform.began``."""
        return await self._engine.began(env.id, action.instance)

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Platform.shell``."""
        return await self._engine.shell(release, tools=tools)

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Platform.attach``."""
        return await self._engine.attach(environment, instance)

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        """See ``Platform.inspect``."""
        as_of = self._clock()
        specs = [spec for record in env.instances.values() if (spec := _launched(env, record)) is not None]
        specs += [spec for run in env.runs.values() if (spec := _running(env, run)) is not None]
        known = {*env.instances, *env.runs, *(action.instance for action in env.pending.values())}
        found = await self._engine.inspect(env.id, specs, known, thorough=thorough)
        routing: tuple[Finding, ...] = ()
        unrouted = ""
        try:
            routing = await self._router.inspect(env.id, thorough=thorough)
        except Unreachable as error:  # what is found of instances counts all the same
            unrouted = error.message
        return Inspection(
            as_of=as_of, findings=(*found.findings, *routing), inspected=found.inspected, missed=found.missed,
            routing_missed=unrouted,
        )  # fmt: skip

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.alarm``."""
        self._engine.alarm(drifted)

    def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Platform.logs``."""
        return self._engine.logs(environment, instance.id, follow=follow)

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """See ``Platform.watch``."""
        self._engine.watch(changed)
        self._prober.on_change(lambda key: changed(key[0]))

    async def close(self) -> None:
        """See ``Platform.close``."""
        await self._prober.close()


def _launched(env: EnvironmentState, record: Instance) -> LaunchSpec | None:
    """Return how *record* was launched; None for one that is being launched, has ended or was asked to end."""
    process = env.releases[record.release].process(record.process)
    if not record.started or record.failed or record.exit is not None or record.stopped_at is not None:
        return None
    if process is None:
        return None
    return LaunchSpec(environment=env.id, instance=record.id, release=env.releases[record.release], process=process)


def _running(env: EnvironmentState, run: Run) -> LaunchSpec | None:
    """Return how *run* was launched, as ``_launched``; None for a debug session: a person may do anything there."""
    release = env.releases.get(run.release)
    process = jobs.process_of(release, run) if release is not None else None
    begun = run.started and not run.failed and run.outcome is None
    if release is None or process is None or not begun or run.stopped_at is not None or run.debug is not None:
        return None
    return LaunchSpec(environment=env.id, instance=run.id, release=release, process=process, once=True)
