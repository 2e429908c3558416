"""A small real image for tests of the engine: a static busybox on EROFS, with the mount points of an image."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import string
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest, digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.process import Health, Probe, Process, Tmpfs
from stelae.domain.release import Release
from stelae.domain.units import MIB
from stelae.images.roots import LayerFile, mount_erofs
from stelae.platforms.local.inventory import teardown
from stelae.platforms.port import LaunchSpec
from stelae.system.installation import Installation

IMAGE = digest_of(b"busybox")
ENVIRONMENT = EnvironmentId("shop/testing")
CONFIG = {"config": {"User": "10001:10001", "WorkingDir": "/", "Env": ["PATH=/bin", "FROM_IMAGE=1"]}}


def make_erofs(folder: Path) -> Path:
    """Make the image's file in *folder*; skips the test when the machine lacks the tools."""
    busybox = shutil.which("busybox")
    if busybox is None or shutil.which("mkfs.erofs") is None or os.geteuid() != 0:
        pytest.skip("needs root, busybox-static and mkfs.erofs")
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "data", "run"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("resolv.conf", "hosts", "hostname"):
        (root / "etc" / name).touch()
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in ("sh", "cat", "sleep", "id", "mount", "nc", "grep", "tail", "true", "wget", "ls", "cp", "dd", "ip"):
        (root / "bin" / name).symlink_to("busybox")
    image = folder / "image.erofs"
    subprocess.run(["mkfs.erofs", "--quiet", str(image), str(root)], check=True, capture_output=True)
    return image


class ErofsRoots:
    """Mounts one EROFS file for every image."""

    def __init__(self, installation: Installation, image: Path) -> None:
        self.point = installation.mounts / "root"
        self._image = image

    def mount_image(self, digest: Digest) -> Path:
        """Return the mounted root."""
        if not self.point.is_mount():
            self.point.mkdir(parents=True, exist_ok=True)
            mount_erofs(self._image, self.point)
        return self.point

    def layers_of(self, digest: Digest) -> tuple[LayerFile, ...]:
        """Return nothing: the image has no layers."""
        return ()

    def distrust(self, layer: Digest, file: tuple[int, int]) -> None:
        raise AssertionError("the image has no layers")


@contextlib.contextmanager
def own_installation(folder: Path) -> Iterator[Installation]:
    """Yield an installation beside all others, and take away whatever is left of it."""
    name = "st" + "".join(random.choices(string.ascii_lowercase, k=4))
    subnet = IPv4Network(f"10.{random.randint(200, 219)}.{random.randint(0, 255)}.0/24")
    installation = Installation(name=name, state=folder / "state", run=folder / "run", subnet=subnet)
    try:
        yield installation
    finally:
        teardown(installation)


def process(*command: str, memory: int = 64 * MIB, pids: int = 64, tmpfs: tuple[Tmpfs, ...] = ()) -> Process:
    """Return the definition of a process ``web``."""
    health = Health(probe=Probe.RUNNING)
    return Process(name="web", command=command, health=health, port=8000, memory=memory, pids=pids, tmpfs=tmpfs)


def spec_of(instance: str, definition: Process, environment: EnvironmentId = ENVIRONMENT) -> LaunchSpec:
    """Return what launches *instance*."""
    app, _, name = environment.partition("/")
    release = Release(app=app, environment=name, image=IMAGE, settings={"GREETING": "hello"}, processes=(definition,))
    return LaunchSpec(environment=environment, instance=InstanceId(instance), release=release, process=definition)
