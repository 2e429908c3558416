"""One crash at one point: a whole Stelae, under load, whose controller dies there in the middle of a deployment."""

from __future__ import annotations

import shutil
import signal
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stelae.domain.errors import StelaeError
from stelae.testing.load import Load
from tests.real.machine import ROOT, Machine

SWIFT = ROOT / "examples" / "swift"
HOST = "swift.localhost"
KINDS = ("recreate", "rolling", "blue-green")
RATE = 30

SPEC = """
[app]
name = "swift"

[image]
base = "debian:bookworm"
packages = ["python3"]
user = "app"

[process.web]
command = ["python3", "-I", "-S", "swift"]
port = 8000
health = {{ path = "/healthz", interval = "200ms", timeout = "1s", start = "10s" }}
drain = "2s"
stop = "1s"
memory = "32MiB"

[env.testing]
hosts = ["{host}"]
processes = {{ web = 2 }}
strategy = {{ kind = "{kind}", min_healthy = "0s" }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The *number*-th time at *point* in a deployment by the strategy *kind*."""

    kind: str
    point: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.kind}-{self.point}-{self.number}"


def make(machine: Machine, kind: str) -> None:
    """Make an app that ignores SIGTERM, so that every verb is needed to replace it, and deploy version 1."""
    shutil.copytree(SWIFT, machine.app, ignore=shutil.ignore_patterns("__pycache__"))
    machine.git("init", "-q", "-b", "main")
    machine.write("stelae.toml", SPEC.format(kind=kind, host=HOST))
    machine.edit("swift/__main__.py", "_signal.signal(SIGTERM, lambda *_: None)", "_signal.signal(SIGTERM, 1)")
    machine.commit("version 1")
    machine.cli("env", "apply")
    machine.cli("deploy", "testing")


def next_image(machine: Machine, version: str = "2") -> str:
    """Build the next version and return its image."""
    machine.edit("swift/__main__.py", f'VERSION = "{int(version) - 1}"', f'VERSION = "{version}"')
    machine.commit(f"version {version}")
    return str(machine.json("build")["image"])


def request(image: str, **more: Any) -> dict[str, Any]:
    """Return the body of a request for a deployment, with an idempotency key."""
    body = {"environment": "swift/testing", "image": image, "release": "", "strategy": "", "supersede": False}
    return {**body, "reason": "", "key": uuid.uuid4().hex, **more}


def survive(crash: Crash) -> None:
    """Have the controller die as *crash* says, start it again, and check all that must be so afterwards."""
    with Machine() as machine:
        make(machine.start(), crash.kind)
        image = next_image(machine)
        machine.stop()
        with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=RATE) as load:
            told, body = _deploy_until_it_dies(machine, image, crash)
            machine.start()
            again = machine.client.post("/v1/deployments", body)["deployment"]
            assert told in (None, again), f"{told} was acknowledged, and asking again gave {again}"
            ended(machine, again)
            whole_again(machine, image)
        failures = load.stop().failures
        assert crash.kind == "recreate" or not failures, failures[:5]
        assert all(failure.trouble == "status" for failure in failures), failures[:5]
        _one_history(machine, again)


def _deploy_until_it_dies(machine: Machine, image: str, crash: Crash) -> tuple[str | None, dict[str, Any]]:
    """Return the deployment that was acknowledged, if one was, and the request."""
    body, told = request(image), None
    controller = machine.spawn(STELAE_CRASH_AT=f"{crash.point}:{crash.number}")
    with suppress(AssertionError):  # at some points it dies before it answers
        machine.answers()
        with suppress(StelaeError):
            told = machine.client.post("/v1/deployments", body)["deployment"]
    assert controller.wait(60) == -signal.SIGKILL, f"it never came to {crash}"
    machine.controller = None
    return told, body


def ended(machine: Machine, deployment: str) -> None:
    """Wait until *deployment* has ended; it must have succeeded."""
    machine.until(
        f"{deployment} ends", lambda: machine.client.get(f"/v1/deployments/{deployment}")["outcome"] != "", 60
    )
    outcome = machine.client.get(f"/v1/deployments/{deployment}")
    assert outcome["outcome"] == "succeeded", outcome


def whole_again(machine: Machine, image: str) -> None:
    """Wait until what the record wants is there, and check that it is exactly what is on the machine."""

    def instances() -> list[dict[str, Any]]:
        (env,) = machine.client.get("/v1/state", at=2**52, environment="")["environments"]
        return env["instances"] if env["state"] == "steady" and env["image"] == image else []

    machine.until(
        "two instances, and no others", lambda: len(instances()) == 2 and all(i["ready"] for i in instances())
    )
    found = machine.differences_soon(20)
    assert not found, found


def _one_history(machine: Machine, deployment: str) -> None:
    """The record verifies, holds the deployment once, and an outcome for every intent."""
    events = machine.json("history", "-n", "500", "--all")["events"]
    verified = machine.client.post("/v1/verify-ledger")  # meanwhile more may have come
    assert verified["size"] >= len(events)
    kinds = [item["kind"] for item in events]
    assert kinds.count("deployment.requested") == 2, "one for each version"
    assert kinds.count("action.intended") == kinds.count("action.done")
    assert deployment == "d-2"
