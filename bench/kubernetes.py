"""An app on a cluster beside plain Deployments with ``kubectl rollout``: deployments, rollbacks, and both under load.

Both have the same cluster, images of the same size that no node has, and the same pod template, that of Stelae. The
plain Deployment is replaced at once (``maxSurge: 100%``, ``maxUnavailable: 0``), as Stelae's is (rolling, ``batch =
"100%"``). Times are of whole commands, with their starts: ``kubectl set image`` and ``kubectl rollout status``, and
``stelae deploy``; the images are in the registry before.

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
from pathlib import Path
from typing import Any

from bench import machine
from bench.figure import Row, Section
from tests.kubernetes.front import Front
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
SERVICE = "swift-bench-web"
ENVIRONMENT = f"""[env.bench]
platform = PLATFORM
processes = {{ web = {INSTANCES} }}
strategy = {{ kind = "rolling", batch = "100%", min_healthy = "0s" }}
bake = "0s"
"""
RECORDED = "of it from the record of the request to that of the outcome"
PHASES = (
    "from the request's record to the record of the set",
    "the set is made on the cluster",
    "until the last instance is seen to be ready",
    "the traffic moved, seen to be moved, and the outcome recorded",
)


class Beside:
    """Stelae's environment and a plain Deployment of the same in one namespace."""

    def __init__(self, whole: Whole) -> None:
        self.whole = whole
        self.times: Samples = defaultdict(list)
        self.serving = ""

    def begin(self) -> None:
        """Deploy the first version with Stelae, and the same beside it."""
        self.whole.environments(ENVIRONMENT)
        self.serving = self.image()
        self._stelae("deploy", "bench", "--image", self.serving)
        self._rest()
        found = self.whole.objects("deployments")[0]
        kubectl = self.whole.kubectl
        kubectl("apply", "-f", self._file("plain.json", _plain(found)))
        kubectl("apply", "-f", self._file("service.json", _service()))
        kubectl("rollout", "status", "deployment/plain")

    def image(self) -> str:
        """Build the next version, send it to the registry, and return its digest."""
        cli = self.whole.next().machine
        digest = str(cli.json("build")["image"])
        cli.cli("push", digest, f"{REGISTRY}/swift:{digest[7:19]}", "--insecure")
        return digest

    def ours(self, deploy: str, back: str) -> None:
        """Deploy with Stelae, and go back; the times go to *deploy* and *back*."""
        before, image = self.serving, self.image()
        self._timed(deploy, image, "deploy", "bench", "--image", image)
        self._timed(back, before, "rollback", "bench")

    def bake(self, duration: str) -> None:
        """Keep what is replaced warm for *duration*."""
        self.whole.environments(ENVIRONMENT.replace('"0s"\n', f'"{duration}"\n'))
        self._rest()

    def plain(self) -> None:
        """Deploy with kubectl, and go back."""
        image = f"{REGISTRY}/swift@{self.image()}"
        self._plain("kubectl deploy", "set", "image", "deployment/plain", f"app={image}")
        self._plain("kubectl rollback", "rollout", "undo", "deployment/plain")

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
        self._stelae("deploy", "bench", "--image", image)

    def plain_of(self, image: str) -> None:
        """Deploy *image* with kubectl."""
        self.whole.kubectl("set", "image", "deployment/plain", f"app={REGISTRY}/swift@{image}")
        self.whole.kubectl("rollout", "status", "deployment/plain")

    def _plain(self, what: str, *command: str) -> None:
        began = time.perf_counter()
        self.whole.kubectl(*command)
        self.whole.kubectl("rollout", "status", "deployment/plain")
        self.times[what].append((time.perf_counter() - began) * 1000)
        self._ended()

    def _timed(self, what: str, image: str, *arguments: str) -> None:
        began = time.perf_counter()
        self._stelae(*arguments)
        self.times[what].append((time.perf_counter() - began) * 1000)
        addresses = set(self.whole.addresses(SERVICE))
        images = [_image(pod) for pod in self.whole.pods() if _address(pod) in addresses]
        assert images == [image] * INSTANCES, f"requests go to {images}, not to {image}"
        self.serving = image
        self._rest()

    def _stelae(self, *arguments: str) -> None:
        environment = {**os.environ, "STELAE_SOCKET": str(self.whole.machine.installation.socket)}
        subprocess.run(
            [STELAE, *arguments], check=True, capture_output=True, env=environment, cwd=self.whole.machine.app
        )

    def _rest(self) -> None:
        """Wait until nothing ends any more."""
        status = self.whole.machine.status
        self.whole.machine.until("steady", lambda: status("bench")["state"] == "steady", PATIENCE)
        self._ended()

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
        for number in range(rounds):
            say(f"deploy and go back to what is kept: {number + 1} of {rounds}")
            beside.plain()
            beside.ours("deploy", "cold rollback")
        beside.bake("10m")
        for number in range(rounds):
            say(f"deploy and go back to what is warm: {number + 1} of {rounds}")
            beside.ours("beside warm", "warm rollback")
        beside.bake("0s")
        loads = {}
        if deploys:
            loads["Stelae"] = beside.under_load(SERVICE, deploys, beside.ours_of)
            loads["kubectl rollout"] = beside.under_load("plain", deploys, beside.plain_of)
        whole.machine.stop()
        ledger = whole.machine.installation.ledger
        back = rollbacks(ledger)
        beside.times["cold, recorded"], beside.times["warm, recorded"] = back[:rounds], back[rounds:]
        return dict(beside.times), loads, phases(ledger)


def rollbacks(path: Path) -> list[float]:
    """Return the milliseconds from the request's record to that of the outcome, of each rollback in the record."""
    ledger = Ledger.open(path, clock=now)
    found, asked = [], 0
    try:
        for recorded in ledger.read():
            event = recorded.event
            if isinstance(event, DeploymentRequested):
                asked = recorded.at if event.deployment_kind is DeploymentKind.ROLLBACK else 0
            elif isinstance(event, RolloutEnded) and asked:
                found.append((recorded.at - asked) / 1000)
    finally:
        ledger.close()
    return found


def phases(path: Path) -> Samples:
    """Return milliseconds by phase of each deployment in the record at *path* that made a set and moved requests."""
    ledger = Ledger.open(path, clock=now)
    found: Samples = {name: [] for name in PHASES}
    marks: list[int] = []
    made = 0
    try:
        for recorded in ledger.read():
            event, at = recorded.event, recorded.at
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
            text="Whole commands; the image is in the registry, and no node has it.",
            rows=[
                Row(name="`kubectl set image`, `kubectl rollout status`", samples=deploy),
                Row(name="`stelae deploy --image`", samples=times["deploy"], goal=RATIO * statistics.median(deploy)),
                Row(name="… while 4 warm instances of an older release end", samples=times["beside warm"]),
            ],
        ),
        Section(
            title=f"On a cluster: rollback of {INSTANCES} pods",
            text="Whole commands.",
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
