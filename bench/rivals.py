"""The same fixture by other tools: images built by ``docker build`` and ``buildah``, instances by ``docker run``.

All have the same content: the base layer that Stelae built, and the app's files copied over it.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.app import INSTANCES, SOURCE, SWIFT
from bench.dockerd import Docker

BASE = "stelae-bench-base"
IMAGE = "stelae-bench"
PORT = 8000
PATIENCE = 30.0
DOCKERFILE = f"""FROM {BASE}
WORKDIR /app
COPY . .
CMD ["python3", "-I", "-S", "swift"]
"""
Samples = dict[str, list[float]]


class Rivals:
    """The fixture's files in *folder* with a Dockerfile; *base* is the tar of the base layer."""

    def __init__(self, docker: Docker, base: Path, folder: Path) -> None:
        self._docker = docker
        self._folder = folder
        self._source = folder / "source"
        shutil.copytree(SWIFT, self._source, ignore=shutil.ignore_patterns("__pycache__"))
        (self._source / "Dockerfile").write_text(DOCKERFILE)
        self._version = 1
        docker("import", "-", BASE, stdin=base)

    def measure(self, rounds: int) -> Samples:
        """Return samples in milliseconds of builds, and of four instances started by hand."""
        times: Samples = defaultdict(list)
        builders = {"docker build, classic": self._docker_build, "docker build, BuildKit": self._buildkit}
        if shutil.which("buildah") is not None:
            self._prepare_buildah()
            builders["buildah build"] = self._buildah
        for build in builders.values():
            build()
        for _ in range(rounds):
            for name, build in builders.items():
                self._change()
                times[f"{name}, one file changed"].append(_timed(build))
                times[f"{name}, nothing changed"].append(_timed(build))
            times["four"].append(self._four())
        return dict(times)

    def _change(self) -> None:
        path = self._source / SOURCE
        old, self._version = self._version, self._version + 1
        path.write_text(path.read_text().replace(f'VERSION = "{old}"', f'VERSION = "{self._version}"'))

    def _docker_build(self) -> None:
        self._docker("build", "-q", "-t", IMAGE, str(self._source), DOCKER_BUILDKIT="0")

    def _buildkit(self) -> None:
        self._docker("build", "-q", "-t", IMAGE, str(self._source), DOCKER_BUILDKIT="1")

    def _prepare_buildah(self) -> None:
        archive = self._folder / "base.tar"
        self._docker("save", "-o", str(archive), BASE)
        self._run_buildah("pull", "-q", f"docker-archive:{archive}")
        archive.unlink()

    def _buildah(self) -> None:
        self._run_buildah("build", "-q", "--layers", "--pull-never", "-t", IMAGE, str(self._source))

    def _run_buildah(self, *words: str) -> None:
        store = self._folder / "buildah"
        places = ["--root", str(store / "root"), "--runroot", str(store / "run"), "--storage-driver", "overlay"]
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        subprocess.run(["buildah", *places, *words], check=True, capture_output=True, env=environment)

    def _four(self) -> float:
        """Return how long it takes to start as many instances at once by hand, until the last one answers."""
        with ThreadPoolExecutor(INSTANCES) as pool:
            began = time.perf_counter()
            started = list(pool.map(lambda _: self._start(), range(INSTANCES)))
            took = (time.perf_counter() - began) * 1000
        self._docker("rm", "-f", *started)
        return took

    def _start(self) -> str:
        container = self._docker("run", "-d", "--read-only", "--memory", "64m", "--user", "10001", IMAGE)
        address = self._docker.address(container)
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            if time.monotonic() > deadline:
                raise RuntimeError(f"a container at {address} does not answer")
            time.sleep(0.005)
        return container


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, PORT, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
