"""A Docker daemon of the benchmark's own: its data, socket and bridge are apart from any other, and end with it.

It is run without packet filter rules, which only makes it faster: they would cut off every other bridge of the
machine for the time of the benchmark.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stelae.system.mount import MNT_DETACH, mounts_below, unmount

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """The command line of a running daemon."""

    client: str
    socket: Path

    def __call__(self, *words: str, stdin: Path | None = None, **environment: str) -> str:
        """Run ``docker WORDS`` and return what it printed; raises CalledProcessError."""
        with (stdin or Path(os.devnull)).open("rb") as file:
            done = subprocess.run(
                [self.client, "--host", f"unix://{self.socket}", *words], stdin=file, capture_output=True, text=True,
                check=True, env={**os.environ, **environment},
            )  # fmt: skip
        return done.stdout.strip()

    def address(self, container: str) -> str:
        """Return the IP address of a container."""
        return self("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container)


@contextmanager
def docker_daemon(folder: Path) -> Iterator[Docker | None]:
    """Run a daemon below *folder* (new, and gone afterwards); None when there is no dockerd on the machine."""
    daemon = shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    # The packaged client fits the packaged daemon, and has its BuildKit; another one may come first in the path.
    client = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker")
    if daemon is None or client is None:
        yield None
        return
    # By lot, so that two of them can run at once.
    number = random.SystemRandom().randrange(256)
    bridge = f"stbench{number}"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"10.251.{number}.1/24", "dev", bridge], check=True)
        subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
        with _running(daemon, folder, bridge) as process:
            docker = Docker(client=client, socket=folder / "docker.sock")
            _wait(docker, process, folder / "dockerd.log")
            yield docker
            _remove_containers(docker)
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=True)
        for mount in reversed(mounts_below(folder)):
            unmount(mount.point, MNT_DETACH)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(daemon: str, folder: Path, bridge: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [
        daemon,
        "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/dockerd.pid",
        "--host", f"unix://{folder}/docker.sock", "--bridge", bridge, "--iptables=false", "--ip6tables=false",
        "--ip-masq=false", "--config-file", f"{folder}/none.json", "--exec-opt", "native.cgroupdriver=cgroupfs",
    ]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "none.json").write_text("{}")
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(docker: Docker, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            docker("version")
            return
        except subprocess.CalledProcessError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not start: {log.read_text()[-2000:]}") from error
        time.sleep(0.1)


def _remove_containers(docker: Docker) -> None:
    found = docker("ps", "-aq").split()
    if found:
        docker("rm", "-f", *found)
