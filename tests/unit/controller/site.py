"""A controller without a machine: a real record in a folder, and a platform that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from stelae.controller.deployments import Deployments
from stelae.controller.environments import Environments
from stelae.controller.loops import Loops
from stelae.controller.observed import Observed
from stelae.controller.past import Past
from stelae.controller.plans import Plans
from stelae.controller.queries import Queries
from stelae.controller.record import Record
from stelae.controller.runs import Runs
from stelae.controller.space import Space
from stelae.controller.watching import Watches
from stelae.core import converge
from stelae.domain import event as ev
from stelae.domain.action import Action
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.digest import Digest, digest_of
from stelae.domain.drift import Finding, Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.domain.image import Image, Source
from stelae.domain.job import Job
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, Instance, Outcome, Rollout
from stelae.domain.units import SECOND, Instant
from stelae.ledger.history.index import History
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger
from stelae.platforms.port import Capability, LogLine
from tests.unit.core.fixtures import WEB, WORKER

Json = dict[str, Any]
TEST, STAGING, PRODUCTION = (EnvironmentId(f"shop/{name}") for name in ("test", "staging", "production"))

SPEC = """
[app]
name = "shop"
[image]
base = "scratch"
[process.web]
command = ["web"]
port = 8000
health = { path = "/" }
[process.worker]
command = ["worker"]
"""


def spec(**environments: str) -> str:
    """A ``stelae.toml`` with these environments; each is given by the lines below its heading."""
    return SPEC + "".join(f"[env.{name}]\n{lines}\n" for name, lines in environments.items())


ONE = spec(test='processes = { web = 2 }\nstrategy = { kind = "rolling", min_healthy = "0s" }')


class FakePlatform:
    """Implements ``Platform``: everything that is launched is ready at once. ``slow`` holds ``prepare`` back."""

    def __init__(self) -> None:
        self.running: dict[EnvironmentId, dict[InstanceId, Phase]] = {}
        self.tables: dict[EnvironmentId, dict[InstanceId, int]] = {}
        self.acts: list[Action] = []
        self.slow: asyncio.Event | None = None
        self.refusal: StelaeError | None = None
        self.problem: Exception | None = None
        self.lines: dict[InstanceId, list[str] | StelaeError] = {}
        self.code: int | None = 0
        """How runs end, and at once; None while they go on."""
        self.begun: set[InstanceId] = set()
        self.findings: list[Finding] = []
        self.inspected = 0
        self.blind: dict[InstanceId, str] = {}
        self.routing_missed = ""
        self.as_of: Instant = 10**17
        self.alarms: list[Callable[[EnvironmentId], None]] = []

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.SECRETS, Capability.EXACT_WEIGHTS, Capability.OWN_INSTANCE_IDS})

    def on(self, choice: PlatformChoice) -> FakePlatform:
        return self

    async def prepare(self, release: Release) -> None:
        if self.slow is not None:
            await self.slow.wait()
        if self.refusal is not None:
            raise self.refusal

    async def observe(self, env: EnvironmentState) -> Observation:
        await asyncio.sleep(0)
        there = self.running.setdefault(env.id, {})
        return Observation(
            as_of=0, applied=env.applied, table=dict(self.tables.get(env.id, {})),
            instances={name: self._seen(name, phase) for name, phase in there.items()},
        )  # fmt: skip

    def _seen(self, name: InstanceId, phase: Phase) -> Seen:
        if name not in self.begun:
            return Seen(id=name, phase=phase)
        if phase is Phase.STARTING and self.code is None:
            return Seen(id=name, phase=phase)
        code = 143 if phase is Phase.EXITED or self.code is None else self.code
        return Seen(id=name, phase=Phase.EXITED, exit=Exit(code=code, at=1, last_lines=("the last line",)))

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        return action.instance in self.begun

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        self.inspected += 1
        if self.problem is not None:
            raise self.problem
        await asyncio.sleep(0)
        seen = frozenset(self.running.get(env.id, {}).keys() - self.blind.keys())
        return Inspection(
            as_of=self.as_of, findings=tuple(self.findings), inspected=seen, missed=self.blind,
            routing_missed=self.routing_missed,
        )  # fmt: skip

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        self.alarms.append(drifted)

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        return converge.actions(target, env, seen)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        await asyncio.sleep(0)
        self.acts.append(action)
        if self.problem is not None:
            raise self.problem
        there = self.running.setdefault(env.id, {})
        if action.instance in env.runs and action.verb == "launch":
            self.begun.add(action.instance)
            there[action.instance] = Phase.STARTING
        elif action.verb == "launch":
            there[action.instance] = Phase.READY
        elif action.verb == "route":
            self.tables[env.id] = dict(action.table)
        elif action.verb == "remove":
            there.pop(action.instance, None)
        else:
            there[action.instance] = Phase.EXITED

    async def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        lines = self.lines.get(instance.id, [])
        if isinstance(lines, StelaeError):
            raise lines
        for number, text in enumerate(lines):
            yield LogLine(instance=instance.id, at=number, stream="stdout", text=text)

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        return None

    async def close(self) -> None:
        return None


class Site:
    """The use cases over one record. ``loops`` do nothing until they are started."""

    def __init__(self, folder: Path, group: asyncio.TaskGroup) -> None:
        self.time: Instant = 1_000 * SECOND
        self.ledger = Ledger.open(folder / "ledger.db", clock=self.clock)
        self.projections = Projections(folder / "projections", self.ledger)
        self.record = Record(self.ledger, self.projections)
        self.platform = FakePlatform()
        self.space = Space()
        self.deployments = Deployments(self.record, self.platform, self.space, clock=self.clock)
        self.group = group
        self.hold()
        self.environments = Environments(self.record)
        self.index = History(self.ledger, folder / "history", folder / "history.key", step=16)
        self.queries = Queries(self.record, self.platform, self.index)
        self.observed = Observed(self.ledger, self.index, self.watches)
        self.past = Past(self.record, self.queries, self.index, self.observed, self.clock)
        self.runs = Runs(self.record, self.platform)
        self.plans = Plans(self.record, self.environments, self.clock)

    def hold(self) -> None:
        """Make the loops anew: after other deployments, which know other proofs."""
        self.watches = Watches()
        policy = self.deployments.policy
        self.loops = Loops(self.record, self.platform, self.clock, self.group, policy, self.watches)

    async def history(self, **asked: Any) -> list[Json]:
        """What happened, as it is told."""
        request = {"environment": "", "limit": 50, "everything": False, "by": "", "of": "", "since": "", "until": ""}
        events: list[Json] = (await self.past.history({**request, **asked}))["events"]
        return events

    def clock(self) -> Instant:
        self.time += 1000
        return self.time

    async def image(
        self, name: str, *, versioned: bool = True, app: str = "shop", jobs: tuple[Job, ...] = ()
    ) -> Digest:  # fmt: skip
        """Record an image of that content, as a build does."""
        digest = digest_of(name.encode())
        image = Image(digest=digest, app=app, processes=(WEB, WORKER), layers=(), size=1, jobs=jobs)
        source = Source(commit=digest_of(b"commit" + name.encode())[7:47], versioned=versioned)
        await self.record.append([ev.ImageBuilt(image=image, source=source)], actor="ana")
        return digest

    async def apply(self, text: str = ONE, **more: Any) -> Json:
        return await self.environments.apply("ana", {"spec": text, "dry_run": False, "environment": "", **more})

    async def deploy(self, image: str, environment: str = TEST, **more: Any) -> Json:
        request = {"environment": environment, "image": image, "release": "", "strategy": "", "key": ""}
        return await self.deployments.deploy("ana", {**request, "supersede": False, "reason": "", **more})

    async def rollback(self, environment: str = TEST, **more: Any) -> Json:
        request = {"environment": environment, "to": "", "key": "", "reason": "", **more}
        return await self.deployments.rollback("bo", request)

    async def end(self, deployment: str, outcome: Outcome = Outcome.SUCCEEDED, environment: str = TEST) -> None:
        """Let the rollout of *deployment* end, as the loop does."""
        event = ev.RolloutEnded(deployment=deployment, outcome=outcome)
        await self.record.append([event], environment=environment)

    async def stable(self, image: str, environment: str = TEST) -> Json:
        """Deploy *image* and let that succeed."""
        done = await self.deploy(image, environment)
        await self.end(done["deployment"], environment=environment)
        return done

    def env(self, name: EnvironmentId = TEST) -> EnvironmentState:
        return self.record.state.environments[name]

    def rollout(self, name: EnvironmentId = TEST) -> Rollout:
        """The one that is under way."""
        found = self.env(name).rollout
        assert found is not None
        return found

    def serving(self, name: EnvironmentId = TEST) -> Release:
        """The stable release."""
        env = self.env(name)
        assert env.stable is not None
        return env.releases[env.stable]

    def events(self, kind: type[ev.Event]) -> list[Any]:
        return [item.event for item in self.ledger.read() if isinstance(item.event, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)


def on_site(folder: Path, body: Callable[[Site], Awaitable[None]]) -> None:
    """Run *body* with a new site in *folder*, and close its record."""

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            site = Site(folder, group)
            try:
                async with asyncio.timeout(60):
                    await body(site)
            finally:
                site.loops.stop()
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
                site.past.close()
                site.record.close()

    asyncio.run(run())
