"""An app on a cluster beside plain Deployments with ``kubectl rollout``: deployments, rollbacks, and both under load.

Both have the same cluster, images of the same size that no node has, and the same pod template, that of Stelae. The
plain Deployment is replaced at once (``maxSurge: 100%``, ``maxUnavailable: 0``), as Stelae's is (rolling, ``batch =
"100%"``). Times are of whole commands, with their starts: ``kubectl set image`` and ``kubectl rollout status``, and
``stelae deploy``, and go on until the Service leads to the new pods alone; the images are in the registry before.

``python -m bench.kubernetes [--rounds N]``, as root, with ``kubectl`` in the path, measures and prints this alone, on
the cluster that ``STELAE_TEST_KUBECONFIG`` names, with the registry of ``STELAE_TEST_REGISTRY``
(tests/kubernetes/whole.py).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import machine
from bench.figure import Row, Section
from tests.kubernetes.front import Endpoints, Front
from tests.kubernetes.ground import KUBECONFIG
from tests.kubernetes.whole import REGISTRY, Registry, Whole

from stelae.domain.action import Verb
from stelae.domain.event import ActionDone, ActionIntended, DeploymentRequested, InstanceReady, RolloutEnded
from stelae.domain.state import DeploymentKind
from stelae.ledger.store import Ledger
from stelae.system.clock import now
from stelae.testing.load import Load, LoadResult

Samples = dict[str, list[float]]
INSTANCES = 4
RATIO = 1.1
WARM = 500.0  # ms
DEPLOYS = 20
RATE = 100  # requests a second
QUIET = 1.0  # seconds between two measurements
PATIENCE = 120.0
STELAE = Path(sys.executable).parent / "stelae"
COLD, WARM_KEPT, PLAIN = "bench", "warm", "plain"
"""The environments: of one nothing that is replaced stays warm, of the other it does; and the plain Deployment."""

ENVIRONMENTS = "".join(
    f"""[env.{name}]
platform = PLATFORM
processes = {{ web = {INSTANCES} }}
strategy = {{ kind = "rolling", batch = "100%", min_healthy = "0s" }}
bake = "{bake}"
"""
    for name, bake in ((COLD, "0s"), (WARM_KEPT, "10m"))
)
RECORDED = "of it from the record of the request to that of the outcome"
PHASES = (
    "from the request's record to the record of the set",
    "the set is made on the cluster",
    "until the last instance is seen to be ready",
    "the traffic moved, seen to be moved, and the outcome recorded",
)


class Led(Endpoints):
    """Remembers since when the requests of a Service go where they go."""

    def __init__(self, namespace: str, service: str) -> None:
        super().__init__(namespace, service)
        self._now: tuple[float, frozenset[str]] = 0.0, frozenset()

    def led(self, addresses: frozenset[str]) -> None:
        """Requests go to *addresses* from now on."""
        if addresses != self._now[1]:
            self._now = time.perf_counter(), addresses

    def since(self, wanted: Callable[[], frozenset[str]]) -> float:
        """Wait until requests go where they are *wanted*; return since when they do."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._now)[1] != (asked := wanted()) or len(asked) != INSTANCES:
            assert time.monotonic() < deadline, f"requests go to {sorted(found[1])}, not to {sorted(asked)}"
        return found[0]


class Beside:
    """Stelae's environments and a plain Deployment of the same in one namespace."""

    def __init__(self, whole: Whole) -> None:
        self.whole = whole
        self.times: Samples = defaultdict(list)
        self.serving: dict[str, str] = {}
        self.leads: dict[str, Led] = {}

    def begin(self) -> None:
        """Deploy the first version with Stelae, and the same beside it; what it replaced is warm where it is kept."""
        self.whole.environments(ENVIRONMENTS)
        for name in (COLD, WARM_KEPT, WARM_KEPT):
            self.serving[name] = self.image()
            self._stelae("deploy", name, "--image", self.serving[name])
            self._rest()
        found = self.whole.objects("deployments")[0]
        kubectl = self.whole.kubectl
        kubectl("apply", "-f", self._file("plain.json", _plain(found)))
        kubectl("apply", "-f", self._file("service.json", _service()))
        kubectl("rollout", "status", "deployment/plain")
        for name in (COLD, WARM_KEPT, PLAIN):
            self.leads[name] = Led(self.whole.namespace, _service_of(name)).__enter__()

    def end(self) -> None:
        """Follow nothing any more."""
        for led in self.leads.values():
            led.__exit__(None, None, None)

    def image(self) -> str:
        """Build the next version, send it to the registry, and return its digest."""
        cli = self.whole.next().machine
        digest = str(cli.json("build")["image"])
        cli.cli("push", digest, f"{REGISTRY}/swift:{digest[7:19]}", "--insecure")
        return digest

    def ours(self, name: str, deploy: str, back: str) -> None:
        """Deploy with Stelae to the environment *name*, and go back; the times go to *deploy* and *back*."""
        before, image = self.serving[name], self.image()
        self._timed(name, deploy, image, "deploy", name, "--image", image)
        self._timed(name, back, before, "rollback", name)

    def plain(self) -> None:
        """Deploy with kubectl, and go back."""
        before, image = self.serving.get(PLAIN, self.serving[COLD]), self.image()
        named = f"app={REGISTRY}/swift@{image}"
        self._plain("kubectl deploy", image, "set", "image", "deployment/plain", named)
        self._plain("kubectl rollback", before, "rollout", "undo", "deployment/plain")

    def under_load(self, service: str, deploys: int, deploy: Callable[[str], None]) -> LoadResult:
        """Have a load go to the pods of *service* through a proxy while it is deployed again and again."""
        with Front(self.whole.namespace, service) as front:
            front.leads_to(INSTANCES)
            with Load("127.0.0.1", front.port, host="swift.localhost", rate=RATE) as load:
                for number in range(deploys):
                    say(f"{service} under load: {number + 1} of {deploys}")
                    deploy(self.image())
                time.sleep(QUIET)
                return load.stop()

    def ours_of(self, image: str) -> None:
        """Deploy *image* with Stelae."""
        self._stelae("deploy", COLD, "--image", image)

    def plain_of(self, image: str) -> None:
        """Deploy *image* with kubectl."""
        self.whole.kubectl("set", "image", "deployment/plain", f"app={REGISTRY}/swift@{image}")
        self.whole.kubectl("rollout", "status", "deployment/plain")

    def _plain(self, what: str, image: str, *command: str) -> None:
        began = time.perf_counter()
        self.whole.kubectl(*command)
        self.whole.kubectl("rollout", "status", "deployment/plain")
        self._took(what, began, PLAIN, image)
        self._ended()

    def _timed(self, name: str, what: str, image: str, *arguments: str) -> None:
        began = time.perf_counter()
        self._stelae(*arguments)
        self._took(what, began, name, image)
        self._rest()

    def _took(self, what: str, began: float, name: str, image: str) -> None:
        """Note what took from *began* until now, and until the requests of *name* go to pods of *image* alone."""
        ended = time.perf_counter()
        labels = "app=plain" if name == PLAIN else f"app.kubernetes.io/name=swift,stelae.dev/environment={name}"

        def wanted() -> frozenset[str]:
            pods = self.whole.objects("pods", "-l", labels)
            return frozenset(_address(pod) for pod in pods if _image(pod) == image and _is_ready(pod))

        self.times[what].append((max(ended, self.leads[name].since(wanted)) - began) * 1000)
        self.serving[name] = image

    def _stelae(self, *arguments: str) -> None:
        environment = {**os.environ, "STELAE_SOCKET": str(self.whole.machine.installation.socket)}
        subprocess.run(
            [STELAE, *arguments], check=True, capture_output=True, env=environment, cwd=self.whole.machine.app
        )

    def _rest(self) -> None:
        """Wait until nothing ends any more."""
        for name in self.serving.keys() - {PLAIN}:
            self.whole.machine.until("steady", partial(self._is_steady, name), PATIENCE)
        self._ended()

    def _is_steady(self, name: str) -> bool:
        return bool(self.whole.machine.status(name)["state"] == "steady")

    def _ended(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while any("deletionTimestamp" in pod["metadata"] for pod in self.whole.objects("pods")):
            assert time.monotonic() < deadline, "pods do not end"
            time.sleep(0.2)
        time.sleep(QUIET)

    def _file(self, name: str, content: dict[str, Any]) -> str:
        path = self.whole.machine.folder / name
        path.write_text(json.dumps(content))
        return str(path)


def _service_of(name: str) -> str:
    return PLAIN if name == PLAIN else f"swift-{name}-web"


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _address(pod: dict[str, Any]) -> str:
    return f"{pod['status'].get('podIP', '')}:{pod['spec']['containers'][0]['ports'][0]['containerPort']}"


def _image(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"]).rpartition("@")[2]


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment like the one that is *found*, that is nobody's and is replaced at once."""
    spec = copy.deepcopy(found["spec"])
    labels = {"app": "plain"}
    template = spec["template"]
    template["metadata"] = {"labels": labels}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "plain"},
        "spec": {"replicas": INSTANCES, "selector": {"matchLabels": labels}, "strategy": strategy,
                 "template": template},
    }  # fmt: skip


def _service() -> dict[str, Any]:
    port = {"name": "serve", "port": 80, "targetPort": "serve"}
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "plain"},
        "spec": {"selector": {"app": "plain"}, "ports": [port]},
    }  # fmt: skip


@contextmanager
def _namespace() -> Iterator[str]:
    name = f"stelae-bench-{secrets.token_hex(3)}"
    environment = {**os.environ, "KUBECONFIG": KUBECONFIG}
    subprocess.run(["kubectl", "create", "namespace", name], check=True, capture_output=True, env=environment)
    try:
        yield name
    finally:
        command = ["kubectl", "delete", "namespace", name, "--wait=false"]
        subprocess.run(command, check=True, capture_output=True, env=environment)


def measure(rounds: int, deploys: int) -> tuple[Samples, dict[str, LoadResult], Samples]:
    """Return the times in milliseconds, what came of the loads, and where the time of Stelae's deployments went."""
    with _namespace() as namespace, Whole(namespace) as whole, Registry(whole.machine.folder / "registry"):
        beside = Beside(whole)
        beside.begin()
        try:
            for number in range(rounds):
                say(f"deploy and go back: {number + 1} of {rounds}")
                beside.plain()
                beside.ours(COLD, "deploy", "cold rollback")
                beside.ours(WARM_KEPT, "beside warm", "warm rollback")
        finally:
            beside.end()
        loads = {}
        if deploys:
            loads["Stelae"] = beside.under_load(_service_of(COLD), deploys, beside.ours_of)
            loads["kubectl rollout"] = beside.under_load(PLAIN, deploys, beside.plain_of)
        whole.machine.stop()
        ledger = whole.machine.installation.ledger
        for name, what in ((COLD, "cold, recorded"), (WARM_KEPT, "warm, recorded")):
            beside.times[what] = rollbacks(ledger, name)
        return dict(beside.times), loads, phases(ledger)


def rollbacks(path: Path, name: str) -> list[float]:
    """Return the milliseconds from the request's record to that of the outcome, of each rollback of the environment
    *name*."""
    ledger = Ledger.open(path, clock=now)
    found, asked = [], 0
    try:
        for recorded in ledger.read():
            event = recorded.event
            if recorded.environment != f"swift/{name}":
                continue
            if isinstance(event, DeploymentRequested):
                asked = recorded.at if event.deployment_kind is DeploymentKind.ROLLBACK else 0
            elif isinstance(event, RolloutEnded) and asked:
                found.append((recorded.at - asked) / 1000)
    finally:
        ledger.close()
    return found


def phases(path: Path) -> Samples:
    """Return milliseconds by phase of each deployment in the record at *path* that made a set and moved requests,
    where nothing stays warm."""
    ledger = Ledger.open(path, clock=now)
    found: Samples = {name: [] for name in PHASES}
    marks: list[int] = []
    made = 0
    try:
        for recorded in ledger.read():
            event, at = recorded.event, recorded.at
            if recorded.environment != f"swift/{COLD}":
                continue
            if isinstance(event, DeploymentRequested):
                marks = [at]
            elif isinstance(event, ActionIntended) and event.action.verb is Verb.ENSURE_SET and len(marks) == 1:
                marks, made = [*marks, at], event.action.number
            elif isinstance(event, ActionDone) and event.number == made and len(marks) == 2:
                marks = [*marks, at]
            elif isinstance(event, InstanceReady) and len(marks) > 2:
                marks = [*marks[:3], at]
            elif isinstance(event, RolloutEnded) and len(marks) == 4:
                for name, begin, end in zip(PHASES, marks, [*marks[1:], at], strict=True):
                    found[name].append((end - begin) / 1000)
                marks = []
    finally:
        ledger.close()
    return found


def sections(times: Samples, loads: dict[str, LoadResult], deploys: int) -> list[Section]:
    """Return the tables."""
    deploy, rollback = times["kubectl deploy"], times["kubectl rollback"]
    return [
        Section(
            title=f"On a cluster: deploy of a new release of {INSTANCES} pods",
            text=(
                "Whole commands, until the Service leads to the new pods alone; the image is in the registry, and no "
                "node has it."
            ),
            rows=[
                Row(name="`kubectl set image`, `kubectl rollout status`", samples=deploy),
                Row(name="`stelae deploy --image`", samples=times["deploy"], goal=RATIO * statistics.median(deploy)),
                Row(name="… while 4 warm instances of an older release end", samples=times["beside warm"],
                    goal=RATIO * statistics.median(deploy)),
            ],
        ),
        Section(
            title=f"On a cluster: rollback of {INSTANCES} pods",
            text="As above.",
            rows=[
                Row(name="`kubectl rollout undo`, `kubectl rollout status`", samples=rollback),
                Row(name="`stelae rollback`, to a release that is kept", samples=times["cold rollback"],
                    goal=statistics.median(rollback)),
                Row(name=f"… {RECORDED}", samples=times["cold, recorded"]),
                Row(name="`stelae rollback`, to a warm release", samples=times["warm rollback"]),
                Row(name=f"… {RECORDED}", samples=times["warm, recorded"], goal=WARM),
            ],
        ),
        *([under_load(loads, deploys)] if loads else []),
    ]  # fmt: skip


def under_load(loads: dict[str, LoadResult], deploys: int) -> Section:
    """Return the table of what came of the loads."""
    return Section(
        title="On a cluster: deployments under load",
        text=(
            f"{deploys} of each, with {RATE} requests a second, half of them over kept connections, to the pods of "
            "a Service through HAProxy on this machine, which follows the EndpointSlices and asks nothing twice."
        ),
        rows=[
            Row(name=f"{name}: failed requests of {result.sent:,}", samples=[len(result.failures)], unit="requests",
                goal=0 if name == "Stelae" else None)
            for name, result in loads.items()
        ],
        ratios=False,
    )  # fmt: skip


def say(text: str) -> None:
    """Tell a person where the run is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="measure an app on a cluster beside plain Deployments")
    parser.add_argument("--rounds", type=int, default=10, help="runs of each figure")
    parser.add_argument("--deploys", type=int, default=DEPLOYS, help="deployments under load, of each")
    options = parser.parse_args()
    if not KUBECONFIG or not REGISTRY:
        parser.error("STELAE_TEST_KUBECONFIG names no cluster, or STELAE_TEST_REGISTRY no registry")
    before = machine.load()
    times, loads, spent = measure(options.rounds, options.deploys)
    for section in sections(times, loads, options.deploys):
        print(section.markdown())
    for name, samples in spent.items():
        print(f"- {name}: {statistics.median(samples):.0f} ms")
    print(f"- load average {before:.1f} when it began, {machine.load():.1f} when it ended")
    for name, result in loads.items():
        for failure in result.failures[:5]:
            print(f"- {name}: {failure}")


if __name__ == "__main__":
    main()
