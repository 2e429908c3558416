"""A controller at rest over simulated instances: what it costs when nothing happens.

The controller's own parts are all real: the loops, the record, the ledger on the disk, the platform of single
instances and its prober, which asks each instance every second. Simulated is the machine below: the engine, the
router, and what an instance answers to a probe (at once, and without a socket).

Run as a process of its own, so that its time and memory are the controller's alone: ``python bench/rest.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import structlog

import stelae.controller.daemon  # noqa: F401 - what the real process has in its memory is here too
from stelae.controller.admission import Admission
from stelae.controller.loops import Loops
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId, Route
from stelae.domain.digest import digest_of
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.strategy import Strategy
from stelae.domain.units import SECOND
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger
from stelae.platforms import probe
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.port import EngineInstance, LaunchSpec, LogLine, RouteEntry, RouterView
from stelae.system.clock import now

WEB = Process(name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP, path="/", interval=SECOND))
SETTLED = 2.0  # seconds between the last event and the beginning of the measurement

Counts = Counter[str]


class SimulatedEngine:
    """An engine whose instances run for ever."""

    def __init__(self, counts: Counts) -> None:
        self._running: dict[EnvironmentId, dict[InstanceId, EngineInstance]] = defaultdict(dict)
        self._counts = counts

    async def prepare(self, release: Release) -> None:
        """See ``Engine.prepare``."""

    async def launch(self, spec: LaunchSpec) -> None:
        """See ``Engine.launch``."""
        self._running[spec.environment][spec.instance] = EngineInstance(
            id=spec.instance, running=True, address="192.0.2.1"
        )

    async def stop(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Engine.stop``."""
        raise AssertionError("nothing is asked to end at rest")

    async def kill(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Engine.kill``."""
        raise AssertionError("nothing is killed at rest")

    async def remove(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Engine.remove``."""
        raise AssertionError("nothing is removed at rest")

    async def observe(self, environment: EnvironmentId) -> Sequence[EngineInstance]:
        """See ``Engine.observe``."""
        self._counts["looks"] += 1
        return list(self._running[environment].values())

    async def logs(self, environment: EnvironmentId, instance: InstanceId, *, follow: bool) -> AsyncIterator[LogLine]:
        """See ``Engine.logs``."""
        return
        yield

    async def last_lines(self, environment: EnvironmentId, instance: InstanceId) -> tuple[str, ...]:
        """See ``Engine.last_lines``."""
        return ()

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """See ``Engine.watch``."""


class SimulatedRouter:
    """A router that holds what it was told."""

    def __init__(self) -> None:
        self._tables: dict[EnvironmentId, dict[InstanceId, int]] = defaultdict(dict)

    async def route(
        self, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: Sequence[str],
        routes: Sequence[Route] = (),
    ) -> None:  # fmt: skip
        """See ``Router.route``."""
        self._tables[environment] = {entry.instance: entry.weight for entry in entries}

    async def observe(self, environment: EnvironmentId) -> RouterView:
        """See ``Router.observe``."""
        table = self._tables[environment]
        return RouterView(table=dict(table), connections=dict.fromkeys(table, 0))

    async def forget(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Router.forget``."""


def main() -> None:
    """Bring the environments up, wait, and print what the wait cost, as JSON."""
    parser = argparse.ArgumentParser(description="measure a controller at rest over simulated instances")
    parser.add_argument("--environments", type=int, default=100)
    parser.add_argument("--instances", type=int, default=10, help="of each environment")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="stelae-rest-") as folder:
        found = asyncio.run(rest(Path(folder), options.environments, options.instances, options.seconds))
    print(json.dumps(found))


async def rest(folder: Path, environments: int, instances: int, seconds: float) -> dict[str, float]:
    """Return the share of a core in percent, the memory in MiB, and what happened in *seconds* at rest."""
    counts: Counts = Counter()

    async def answered(health: Health, address: str, port: int) -> str:
        counts["probes"] += 1
        return ""

    probe.probe = answered
    ledger = Ledger.open(folder / "ledger.db", clock=now)
    record = Record(ledger, Projections(folder / "projections", ledger))
    platform = InstancePlatform(SimulatedEngine(counts), SimulatedRouter(), probe.Prober(now), now)
    async with asyncio.TaskGroup() as group:
        policy = Policy(record, Admission(record, None), now)
        loops = Loops(record, platform, now, group, policy)
        loops.start()
        began = time.perf_counter()
        for number in range(environments):
            await deploy(record, f"app{number}", instances)
        while not all(serves(env, instances) for env in record.state.environments.values()):
            await record.changed(record.state.size)
        started = time.perf_counter() - began
        await asyncio.sleep(SETTLED)
        found = await measured(counts, seconds)
        assert record.state.size == ledger.size
        loops.stop()
        await platform.close()
    record.close()
    return {**found, "seconds until all serve": started, "events": ledger.size}


async def deploy(record: Record, app: str, count: int) -> None:
    """Ask for *count* instances, as a request to the controller does."""
    environment = Environment(
        app=app, name="production", processes={"web": count}, strategy=Strategy(min_healthy=0), hosts=(f"{app}.test",)
    )
    release = Release(app=app, environment="production", image=digest_of(app.encode()), processes=(WEB,))
    asked = ev.DeploymentRequested(
        deployment=f"d-{record.state.deployments + 1}", deployment_kind=DeploymentKind.DEPLOY, release=release,
        strategy=environment.strategy,
    )  # fmt: skip
    events = [ev.EnvironmentApplied(environment=environment), asked]
    await record.append(events, actor="bench", environment=environment.id)


def serves(env: EnvironmentState, count: int) -> bool:
    """True when nothing is under way and all instances get traffic."""
    return env.rollout is None and not env.pending and len(env.table) == count


async def measured(counts: Counts, seconds: float) -> dict[str, float]:
    """Return what *seconds* of this process cost."""
    counts.clear()
    began, spent = time.perf_counter(), processor_time()
    await asyncio.sleep(seconds)
    passed = time.perf_counter() - began
    return {
        "percent of a core": 100 * (processor_time() - spent) / passed,
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "looks/s": counts["looks"] / passed,
        "probes/s": counts["probes"] / passed,
    }


def processor_time() -> float:
    """Return the seconds of a processor that this process has used, its threads and the kernel's part included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
