"""The fixture of the benchmarks on a whole Stelae: deployments, rollbacks, and the command line.

Times of requests run from before the request is sent to the controller until its outcome has come back, so what
the controller takes to accept it is in them. After each of them all answers come from the right version.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.real.machine import ROOT, Machine

from stelae.platforms.local.inventory import teardown

SWIFT = ROOT / "examples" / "swift"
STELAE = Path(sys.executable).parent / "stelae"
SOURCE = "swift/__main__.py"
HOST = "swift.localhost"
ENVIRONMENT = "swift/bench"
INSTANCES = 4
QUIET = 0.3  # seconds between two measurements
Samples = dict[str, list[float]]


class App:
    """The deployed fixture, version by version."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.version = self.serving = 1
        self.times: Samples = defaultdict(list)

    def next_image(self) -> str:
        """Commit the next version, build it, and return the image's digest."""
        old, self.version = self.version, self.version + 1
        self.machine.edit(SOURCE, f'VERSION = "{old}"', f'VERSION = "{self.version}"')
        self.machine.commit(f"version {self.version}")
        built = self.machine.json("build")
        assert built["created"]
        return str(built["image"])

    def deploy(self, image: str) -> str:
        """Deploy *image*, the latest, by blue-green, and return its release; the time goes to ``deploy``."""
        body = {
            "environment": ENVIRONMENT, "image": image, "release": "", "strategy": "blue-green", "supersede": False,
            "key": "", "reason": "",
        }  # fmt: skip
        return self._move("deploy", "/v1/deployments", body, self.version)

    def rollback(self, what: str, version: int, to: str = "") -> None:
        """Go back to the release *to*, which is of *version*; the time goes to *what*."""
        self._move(what, "/v1/rollbacks", {"environment": ENVIRONMENT, "to": to, "key": "", "reason": ""}, version)

    def bake(self, duration: str) -> None:
        """Keep what is replaced warm for *duration*."""
        spec = (self.machine.app / "stelae.toml").read_text().splitlines()
        lines = [f'bake = "{duration}"' if line.startswith("bake") else line for line in spec]
        self.machine.write("stelae.toml", "\n".join(lines) + "\n").commit("bake")
        self.machine.cli("env", "apply")

    def stop_instances(self) -> None:
        """End what runs, so that it is not in the way of other measurements; the controller must have ended."""
        teardown(self.machine.installation)

    def _move(self, what: str, route: str, body: dict[str, Any], version: int) -> str:
        client = self.machine.client
        began = time.perf_counter()
        answer = client.post(route, body)
        result = client.follow("GET", f"/v1/deployments/{answer['deployment']}/watch", None, lambda _: None)
        self.times[what].append(_since(began))
        assert result["outcome"] == "succeeded", result
        self._all_traffic_on(version)
        self.serving = version
        self.machine.at_rest()
        time.sleep(QUIET)
        return str(answer["release"])

    def _all_traffic_on(self, version: int) -> None:
        instances = set()
        for _ in range(4 * INSTANCES):
            connection = http.client.HTTPConnection("127.0.0.1", self.machine.installation.http_port, timeout=5)
            connection.request("GET", "/", headers={"Host": HOST})
            response = connection.getresponse()
            assert response.getheader("X-Version") == str(version), f"not version {version}: {response.read()!r}"
            instances.add(response.getheader("X-Instance"))
            connection.close()
        assert len(instances) == INSTANCES


@contextmanager
def deployed() -> Iterator[App]:
    """Run a Stelae of its own with the fixture deployed."""
    with Machine(checked=False) as machine:
        machine.use(SWIFT).start()
        image = machine.json("build")["image"]
        machine.keep_seed()
        machine.cli("env", "apply")
        app = App(machine)
        app.deploy(image)
        app.times.clear()
        yield app


def measure(app: App, rounds: int, say: Callable[[str], None]) -> Samples:
    """Return samples in milliseconds of deployments, rollbacks and the command line."""
    for number in range(rounds):
        say(f"build, deploy, warm rollback: {number + 1} of {rounds}")
        before = app.serving
        image = app.next_image()
        app.deploy(image)
        app.rollback("warm rollback", before)
    deploys = list(app.times["deploy"])
    app.bake("0s")
    for number in range(rounds):
        say(f"cold rollback: {number + 1} of {rounds}")
        before, release = app.serving, app.machine.status("bench")["release"]
        app.deploy(app.next_image())
        app.rollback("cold rollback", before, release)
    app.times["deploy"] = deploys  # those of one setting
    say("command line")
    for _ in range(2 * rounds):
        app.times["--version"].append(_command(app, "--version"))
        app.times["status"].append(_command(app, "status"))
    return dict(app.times)


def _command(app: App, word: str) -> float:
    environment = {"PATH": "/usr/bin:/bin", "STELAE_SOCKET": str(app.machine.installation.socket)}
    began = time.perf_counter()
    subprocess.run([STELAE, word], check=True, capture_output=True, env=environment)
    return _since(began)


def base_layer(machine: Machine) -> Path:
    """Return the tar of the base layer of the image of the app of *machine*."""
    built = machine.json("build")
    digest = next(str(layer["digest"]) for layer in built["layers"] if layer["name"] == "base")
    return machine.installation.images / "blobs" / Path(*digest.split(":"))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
