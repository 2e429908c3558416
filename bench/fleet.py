"""What many environments on clusters cost a controller: requests to the API, processor time and memory.

The controller's parts are all real: loops, record, ledger, the platform of clusters, its client and its watches. The
cluster is the double of the tests, in a process of its own: its API is on a real socket, and its controllers and its
kubelet make the pods. At rest, at a deployment, when one pod is started again, and when all watches have expired.

``python -m bench.fleet [--environments N] [--pods N] [--namespaces N]`` measures and prints this alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

import stelae.controller.daemon  # noqa: F401 - what the real process has in its memory is here too
from stelae.controller.admission import Admission
from stelae.controller.loops import Loops
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.domain import event as ev
from stelae.domain.digest import Digest, digest_of
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.domain.units import MIB, SECOND
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster, connect
from stelae.platforms.kubernetes.platform import KubernetesPlatform
from stelae.system.clock import now
from stelae.testing.kubernetes import Double, Program

INSTALLATION = "0123456789ab"
SETTLED = 3.0  # seconds between the last event and the beginning of a measurement
REST = 30.0
SIZES = ((20, 50), (50, 50), (100, 50), (200, 50))  # environments, pods of each
NAMESPACES = 10
WEB = Process(
    name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP, path="/", interval=SECOND),
    memory=64 * MIB, drain=SECOND, stop=SECOND,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What something took of the controller, and what it asked the API for."""

    seconds: float
    processor: float  # seconds of a processor
    calls: Mapping[str, int]

    @property
    def asked(self) -> int:
        """Requests in all."""
        return sum(self.calls.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured with so many environments and pods. ``deploy`` is of all pods of one environment, ``restart``
    of one container, ``expiry`` of every watch; memory in MiB."""

    environments: int
    pods: int
    bare: float
    memory: float
    begin: Spent
    rest: Spent
    deploy: Spent
    restart: Spent
    expiry: Spent


class Held:
    """The controller's process: commands come as lines, and each is answered by one."""

    def __init__(self, folder: Path, kubeconfig: Path, namespaces: int) -> None:
        self._kubeconfig, self._namespaces = kubeconfig, namespaces
        self._clusters: dict[str, Cluster] = {}
        ledger = Ledger.open(folder / "ledger.db", clock=now)
        self._record = Record(ledger, Projections(folder / "projections", ledger))
        self._platform = KubernetesPlatform(
            INSTALLATION, self._reach, None, _pushed, lambda _: {"config": {"User": "10001"}}, self._choice, now
        )

    async def run(self) -> None:
        """Do what comes, until nothing comes any more."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            policy = Policy(self._record, Admission(self._record, None), now)
            loops = Loops(self._record, self._platform, now, group, policy)
            loops.start()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                word, *arguments = line.split()
                print(json.dumps(await getattr(self, f"_{word}")(*map(int, arguments))), flush=True)
            loops.stop()
            await self._platform.close()
        self._record.close()

    async def _usage(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        size = self._record.state.size
        return {"processor": usage.ru_utime + usage.ru_stime, "MiB": _resident(), "events": size}

    async def _deploy(self, first: int, last: int, pods: int, version: int) -> int:
        """Deploy to the environments from *first* to before *last*, and wait until all requests go there."""
        for number in range(first, last):
            await self._ask(number, pods, version)
        for number in range(first, last):
            while not self._serves(number, pods, version):
                await self._record.changed(self._record.state.size)
        return self._record.state.size

    async def _recorded(self, size: int) -> int:
        """Wait until the record has more than *size* events."""
        while self._record.state.size <= size:
            await self._record.changed(self._record.state.size)
        return self._record.state.size

    async def _fresh(self) -> int:
        """Wait until all that is known of the cluster is known to be true now."""
        for number in range(self._namespaces):
            await self._clusters[f"team-{number}"].synced(60)
        return 0

    async def _ask(self, number: int, pods: int, version: int) -> None:
        release = _release(number, version)
        environment = Environment(
            app=release.app, name=release.environment, processes={"web": pods}, hosts=(f"{release.app}.test",),
            platform=self._place(number), bake=0,
            strategy=Strategy(kind=StrategyKind.ROLLING, min_healthy=0, batch=100),
        )  # fmt: skip
        asked = ev.DeploymentRequested(
            deployment=f"d-{self._record.state.deployments + 1}", deployment_kind=DeploymentKind.DEPLOY,
            release=release, strategy=environment.strategy,
        )  # fmt: skip
        events = [ev.EnvironmentApplied(environment=environment), asked]
        await self._record.append(events, actor="bench", environment=environment.id)

    def _serves(self, number: int, pods: int, version: int) -> bool:
        release = _release(number, version)
        env = self._record.environment(EnvironmentId(f"{release.app}/{release.environment}"))
        return env is not None and _is_steady(env, release, pods)

    def _place(self, number: int) -> PlatformChoice:
        namespace = f"team-{number % self._namespaces}"
        return PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=namespace, registry="registry.test/apps")

    def _choice(self, environment: EnvironmentId) -> PlatformChoice:
        env = self._record.environment(environment)
        return env.config.platform if env is not None and env.config is not None else PlatformChoice()

    def _reach(self, context: str, namespace: str) -> Cluster:
        made = connect(
            context, namespace, installation=INSTALLATION, jitter=random.random, kubeconfig=self._kubeconfig
        )
        self._clusters[namespace] = made
        return made


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


async def _pushed(release: Release, choice: PlatformChoice) -> str:
    return f"{choice.repository(release.app)}@{release.image}"


def _release(number: int, version: int) -> Release:
    image: Digest = digest_of(f"{number} {version}".encode())
    return Release(
        app=f"app{number}", environment="production", image=image, processes=(WEB,),
        settings={"VERSION": str(version)},
    )  # fmt: skip


def _is_steady(env: EnvironmentState, release: Release, pods: int) -> bool:
    """True when nothing is under way, and all requests go to *pods* of *release*, and nothing else is there."""
    if env.rollout is not None or env.pending or set(env.weights) != {release.id} or len(env.instances) != pods:
        return False
    return all(one.release == release.id for one in env.instances.values())


class Measured:
    """A controller as a process, before a double in this one."""

    def __init__(self, double: Double, child: asyncio.subprocess.Process) -> None:
        self._double, self._child = double, child

    async def tell(self, *words: object) -> Any:
        """Have the controller do something, and return its answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write((" ".join(map(str, words)) + "\n").encode())
        line = await self._child.stdout.readline()
        if not line:
            raise RuntimeError("the controller ended")
        return json.loads(line)

    async def spent(self, what: Callable[[], Any]) -> Spent:
        """Return what *what* costs the controller."""
        self._double.calls.clear()
        before, began = await self.tell("usage"), time.perf_counter()
        await what()
        after = await self.tell("usage")
        return Spent(
            seconds=time.perf_counter() - began, processor=after["processor"] - before["processor"],
            calls={f"{verb} {plural}": count for (verb, plural), count in sorted(self._double.calls.items())},
        )  # fmt: skip


async def measure(environments: int, pods: int, namespaces: int, say: Callable[[str], None]) -> Found:
    """Return what *environments* of *pods* each cost."""
    names = [f"team-{number}" for number in range(namespaces)]
    with tempfile.TemporaryDirectory(prefix="stelae-fleet-") as folder:
        async with Double(*names, programs=lambda _: Program(ready=0.01), gateway=False) as double:
            kubeconfig = double.kubeconfig(Path(folder) / "kubeconfig")
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.fleet", "--controller", folder, "--kubeconfig", str(kubeconfig),
                "--namespaces", str(namespaces), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                return await _measure(Measured(double, child), double, environments, pods, say)
            finally:
                with suppress(ProcessLookupError):
                    child.terminate()
                await child.wait()


async def _measure(
    at: Measured, double: Double, environments: int, pods: int, say: Callable[[str], None]
) -> Found:  # fmt: skip
    bare = (await at.tell("usage"))["MiB"]
    say(f"{environments} environments of {pods} pods: the first deployment of each")

    async def begin() -> None:
        for first in range(0, environments, 10):
            await at.tell("deploy", first, min(first + 10, environments), pods, 1)

    begun = await at.spent(begin)
    await asyncio.sleep(SETTLED)
    assert len(double.objects(kinds.POD)) == environments * pods
    say(f"at rest, {REST:g} s")
    rest = await at.spent(lambda: asyncio.sleep(REST))
    memory = (await at.tell("usage"))["MiB"]
    say("a deployment")
    deploy = await at.spent(lambda: at.tell("deploy", 0, 1, pods, 2))
    await asyncio.sleep(SETTLED)
    say("a restart")
    size = (await at.tell("usage"))["events"]
    pod = double.objects(kinds.POD)[0]["metadata"]

    async def restart() -> None:
        double.kubelet.exit(pod["namespace"], pod["name"], 1)
        await at.tell("recorded", size)

    restarted = await at.spent(restart)
    await asyncio.sleep(SETTLED)
    say("an expiry")

    async def expire() -> None:
        double.faults.expire()
        await asyncio.sleep(2 * SETTLED)
        await at.tell("fresh")

    expiry = await at.spent(expire)
    return Found(
        environments=environments, pods=environments * pods, bare=bare, memory=memory, begin=begun, rest=rest,
        deploy=deploy, restart=restarted, expiry=expiry,
    )  # fmt: skip


def table(found: list[Found]) -> str:
    """Return the figures as Markdown; what a controller takes at rest is not in those of other things."""
    head = (
        "environments", "pods", "memory", f"at rest: requests in {REST:g} s", "… of a core", "a deployment: requests",
        "… processor", "a restart: requests", "an expiry: requests", "… processor",
    )  # fmt: skip
    rows = [
        (
            f"{one.environments}", f"{one.pods:,}", f"{one.memory:.0f} MiB", f"{one.rest.asked}",
            f"{100 * _rate(one.rest):.1f} %", f"{one.deploy.asked}", f"{_above(one, one.deploy):.2f} s",
            f"{one.restart.asked}", f"{one.expiry.asked}", f"{_above(one, one.expiry):.2f} s",
        )
        for one in found
    ]  # fmt: skip
    lines = [f"| {' | '.join(row)} |" for row in (head, ["--:"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _rate(spent: Spent) -> float:
    return spent.processor / spent.seconds


def _above(one: Found, spent: Spent) -> float:
    return max(0.0, spent.processor - _rate(one.rest) * spent.seconds)


def main() -> None:
    """Measure and print, or be the controller that is measured."""
    parser = argparse.ArgumentParser(description="measure a controller of many environments on a double of clusters")
    parser.add_argument("--environments", type=int, help="default: several sizes")
    parser.add_argument("--pods", type=int, default=50, help="of each environment")
    parser.add_argument("--namespaces", type=int, default=NAMESPACES)
    parser.add_argument("--controller", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if options.controller is not None:
        asyncio.run(Held(options.controller, options.kubeconfig, options.namespaces).run())
        return
    sizes = [(options.environments, options.pods)] if options.environments else SIZES
    found = [asyncio.run(measure(environments, pods, options.namespaces, _say)) for environments, pods in sizes]
    print(table(found))
    for one in found:
        print(one)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
