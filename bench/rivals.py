"""The same fixture by ``docker run``: the base layer that Stelae built, and the app's files copied over it."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.app import INSTANCES
from bench.content import BASE, SWIFT
from bench.dockerd import Docker

IMAGE = "stelae-bench"
PORT = 8000
PATIENCE = 30.0
Samples = dict[str, list[float]]


class Rivals:
    """The fixture's image of the same content, in *docker*; *base* is the tar of the base layer, *folder* new."""

    def __init__(self, docker: Docker, base: Path, folder: Path) -> None:
        self._docker = docker
        folder.mkdir()
        SWIFT.copy(folder)
        (folder / "Dockerfile").write_text(SWIFT.dockerfile)
        docker("import", "-", BASE, stdin=base)
        docker("build", "-q", "-t", IMAGE, str(folder), DOCKER_BUILDKIT="0")

    def measure(self, rounds: int) -> Samples:
        """Return samples in milliseconds of four instances started by hand, as ``four``."""
        return {"four": [self._four() for _ in range(rounds)]}

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
