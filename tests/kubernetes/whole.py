"""A whole Stelae that holds an app on a real cluster: its controller and its command line.

``STELAE_TEST_REGISTRY`` (``HOST:PORT/PATH``) is where both this machine and the cluster's nodes find images, without
TLS. The benchmarks start one there, where nothing listens.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.kubernetes.ground import KUBECONFIG
from tests.real.machine import ROOT, Machine

REGISTRY = os.environ.get("STELAE_TEST_REGISTRY", "").removeprefix("http://")
ADDRESS = REGISTRY.partition("/")[0]
SWIFT = ROOT / "examples" / "swift"
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"}}
log: {{level: error}}
"""


registry_needed = pytest.mark.skipif(not REGISTRY, reason="STELAE_TEST_REGISTRY names no registry")


class Registry:
    """Debian's registry at ``ADDRESS``; a context manager. One that runs there already is used as it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if not _listens(ADDRESS):
            self._folder.mkdir(parents=True, exist_ok=True)
            config = self._folder / "config.yml"
            config.write_text(CONFIG.format(root=self._folder / "data", address=ADDRESS))
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
            )  # fmt: skip
            deadline = time.monotonic() + 30
            while not _listens(ADDRESS):
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


class Whole:
    """An app of the fixture ``swift`` with its environments in *namespace*, and a controller with *environment*; a
    context manager."""

    def __init__(self, namespace: str, **environment: str) -> None:
        self.namespace = namespace
        self._environment = {"STELAE_KUBECONFIG": KUBECONFIG, **environment}
        self.machine = Machine(checked=False)
        self.number = 1

    def __enter__(self) -> Self:
        try:
            self.machine.use(SWIFT).start(**self._environment)
        except BaseException as error:  # what was started goes, whatever it is
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.machine.__exit__(kind, error, at)

    def environments(self, text: str, registry: str = REGISTRY) -> Self:
        """Have the environments be those of *text*, in which PLATFORM stands for the cluster, and apply them."""
        platform = f'{{ kind = "kubernetes", namespace = "{self.namespace}", registry = "{registry}" }}'
        spec = (self.machine.app / "stelae.toml").read_text().partition("[env.")[0]
        self.machine.write("stelae.toml", spec + text.replace("PLATFORM", platform)).commit("environments")
        self.machine.cli("env", "apply")
        return self

    def next(self) -> Self:
        """Commit the next version of the app."""
        self.number += 1
        self.machine.edit("swift/__main__.py", f'VERSION = "{self.number - 1}"', f'VERSION = "{self.number}"')
        self.machine.commit(f"version {self.number}")
        return self

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Ask the cluster past Stelae."""
        command = [shutil.which("kubectl") or "kubectl", "-n", self.namespace, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "KUBECONFIG": KUBECONFIG},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def objects(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects of *kind* in the namespace."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json", *arguments))["items"]
        return found

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods that are not ending."""
        return [pod for pod in self.objects("pods") if "deletionTimestamp" not in pod["metadata"]]

    def addresses(self, service: str) -> list[str]:
        """Return the addresses of the pods that a Service leads requests to now."""
        slices = self.objects("endpointslices", "-l", f"kubernetes.io/service-name={service}")
        return sorted(
            f"{endpoint['addresses'][0]}:{each['ports'][0]['port']}"
            for each in slices for endpoint in each.get("endpoints") or () if endpoint["conditions"].get("ready")
        )  # fmt: skip
