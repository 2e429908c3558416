"""A small installation for tests of drift: an engine over real images of two layers, and what attackers do."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest
from stelae.domain.drift import Drift, Finding
from stelae.domain.process import Process, Tmpfs
from stelae.domain.units import MIB
from stelae.images.erofs import layer_path
from stelae.images.layout import CONFIG, LAYER, MANIFEST, Layout
from stelae.images.roots import Roots
from stelae.images.tree import Tree, directory, file, symlink
from stelae.platforms.local import record
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.inventory import teardown
from stelae.platforms.local.place import Place, place_of
from stelae.platforms.port import EngineInspection, LaunchSpec
from stelae.system.installation import Installation
from stelae.system.mount import MNT_DETACH, mounts_below, unmount
from tests.real.busybox import ENVIRONMENT, process, spec_of

IDLE = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
TMPFS = (Tmpfs(path="/data", size=MIB),)
DATA = bytes(range(256)) * 400


def idle(script: str = IDLE) -> Process:
    """Return a process that runs *script* in a shell."""
    return process("sh", "-c", script, tmpfs=TMPFS)


class Ground:
    """An engine, its images, and the instances that are launched on it."""

    def __init__(self, installation: Installation, *, loop: bool = False) -> None:
        self.installation = installation
        self.layout = Layout.open(installation.images)
        self.roots = Roots(self.layout, installation.layers, installation.mounts, loop=loop)
        layers = [self.layout.add_layer(tree, mtime=1_000_000_000) for tree in (base_tree(), _app())]
        (self.base, _), (self.app, _) = layers
        self.image = self.add_image(*layers)
        self.engine = self.another()
        self.specs: list[LaunchSpec] = []

    def another(self) -> LocalEngine:
        """Return an engine as the next controller would have it."""
        roots = Roots(self.layout, self.installation.layers, self.installation.mounts)
        return LocalEngine(self.installation, roots, self.layout.config)

    async def launch(
        self, instance: str = "web-1", definition: Process | None = None, image: Digest | None = None,
        secrets: tuple[str, ...] = (),
    ) -> Place:  # fmt: skip
        """Start an instance, of *image* or its own, with the first of *secrets* as a variable too."""
        found = spec_of(instance, definition or idle())
        release = replace(
            found.release, image=image or self.image, secrets=dict.fromkeys(secrets, 1), secret_env=secrets[:1]
        )  # fmt: skip
        spec = replace(found, release=release)
        await self.engine.launch(spec)
        self.specs.append(spec)
        return place_of(self.installation, ENVIRONMENT, InstanceId(instance))

    async def inspect(self, *, thorough: bool = False, engine: LocalEngine | None = None) -> EngineInspection:
        """Return what one sweep finds."""
        known = {spec.instance for spec in self.specs}
        return await (engine or self.engine).inspect(ENVIRONMENT, self.specs, known, thorough=thorough)

    async def clean(self) -> None:
        """Assert that a sweep looks at everything and finds nothing."""
        found = await self.inspect()
        assert found.findings == ()
        assert found.missed == {}
        assert found.inspected == {spec.instance for spec in self.specs}

    async def finds(self, kind: Drift, what: str, instance: str = "web-1") -> Finding:
        """Assert that one sweep finds exactly this, and the next one the same; return it."""
        found = (await self.inspect()).findings
        again = (await self.inspect()).findings
        assert [(item.kind, item.what, item.instance) for item in found] == [(kind, what, instance)]
        assert [item.what for item in again] == [what]
        return found[0]

    def pid(self, instance: str = "web-1") -> int:
        """Return the first process of *instance*."""
        found = record.load(place_of(self.installation, ENVIRONMENT, InstanceId(instance)))
        assert found is not None
        assert found.process is not None
        return found.process.pid

    def layer_file(self, layer: Digest) -> Path:
        """Return the file of a layer."""
        return layer_path(self.installation.layers, layer)

    def add_image(self, *layers: tuple[Digest, int]) -> Digest:
        """Put an image of *layers*, digests and sizes, into the store."""
        config = canonical({
            "architecture": "amd64", "os": "linux",
            "config": {"User": "10001:10001", "WorkingDir": "/", "Env": ["PATH=/bin", "FROM_IMAGE=1"]},
            "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in layers]},
        })  # fmt: skip
        return self.layout.put_image(
            canonical({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": self.layout.add_blob(config), "size": len(config)},
                "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in layers],
            }),
            name="",
        )  # fmt: skip


def base_tree() -> Tree:
    """Return a busybox, and the mount points of an image."""
    busybox = shutil.which("busybox")
    if busybox is None or shutil.which("mkfs.erofs") is None or os.geteuid() != 0:
        pytest.skip("needs root, busybox-static and mkfs.erofs")
    tree = Tree()
    for name in (b"bin", b"proc", b"sys", b"dev", b"tmp", b"etc", b"data", b"run"):
        tree.add(name, directory())
    tree.add(b"bin/busybox", file(Path(busybox).read_bytes(), 0o755))
    for name in (b"sh", b"sleep", b"cat", b"true", b"env", b"head", b"yes"):
        tree.add(b"bin/" + name, symlink(b"busybox"))
    for name in (b"hosts", b"hostname", b"resolv.conf", b"passwd"):
        tree.add(b"etc/" + name, file(b""))
    return tree


def _app() -> Tree:
    tree = Tree()
    tree.add(b"app", directory())
    tree.add(b"app/program", file(DATA))
    return tree


@contextmanager
def own_ground(folder: Path, *, loop: bool = False) -> Iterator[Ground]:
    """Yield a ground, and take away whatever is left of it."""
    name = "st" + "".join(random.choices(string.ascii_lowercase, k=4))
    subnet = IPv4Network(f"10.{random.randint(200, 219)}.{random.randint(0, 255)}.0/24")
    installation = Installation(name=name, state=folder / "state", run=folder / "run", subnet=subnet)
    try:
        yield Ground(installation, loop=loop)
    finally:
        teardown(installation)
        for item in reversed(mounts_below(folder)):
            unmount(item.point, MNT_DETACH)


def inside(pid: int, act: Callable[[], object]) -> None:
    """Do *act* in the mount namespace of process *pid*, as an attacker on the machine does with nsenter."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
            if ctypes.CDLL(None).setns(namespace, 0) == 0:
                act()
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "the attack itself failed"


def group_of(pid: int, controller: str) -> Path:
    """Return the control group of *pid* with the files of *controller*."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names == "" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path(f"/sys/fs/cgroup{path}")
        if controller in names.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}")
    raise AssertionError(f"no control group of {controller}")
