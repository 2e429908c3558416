"""A disk for the tests of machines: the small image of the tests of containers, with the kernel that a lock names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from stelae.build.disk.maker import make
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of
from stelae.domain.release import Release
from stelae.images.disks import DiskFiles
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.port import Capability, Platform
from stelae.platforms.probe import Prober
from stelae.platforms.vm.engine import VmEngine
from stelae.platforms.vm.machines import Machines
from stelae.system.clock import now
from stelae.system.installation import Installation
from stelae.testing.contract_secrets import Given
from tests.real.boot_seed import boot_tree
from tests.real.busybox import CONFIG, IMAGE, ErofsRoots, make_erofs
from tests.real.contract_parts import Parts

DISK = digest_of(b"the disk of busybox")


def make_disk(folder: Path) -> DiskFiles:
    """Make the disk below *folder*, and the image as a container's beside it (``image.erofs``)."""
    make_erofs(folder)
    made = make(folder / "root", boot_tree(), _empty(folder / "made"), image=IMAGE)
    for file in (made.raw, made.kernel, made.initrd):
        file.chmod(0o444)
    disk = Disk(
        digest=DISK, image=IMAGE, raw=digest_in(made.raw), size=made.raw.stat().st_size, root_hash=made.root_hash,
        uki=digest_in(made.uki), kernel=made.release,
    )  # fmt: skip
    return DiskFiles(
        disk=disk, raw=made.raw, kernel=made.kernel, initrd=made.initrd, kernel_digest=digest_in(made.kernel),
        initrd_digest=digest_in(made.initrd), cmdline=made.cmdline,
    )  # fmt: skip


def digest_in(path: Path) -> Digest:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


class OneDisk:
    """A source of disks that has one."""

    def __init__(self, files: DiskFiles) -> None:
        self._files = files

    def open(self, digest: Digest) -> DiskFiles:
        """Return it."""
        assert digest == DISK
        return self._files

    def distrust(self, file: tuple[int, int]) -> None:
        """It is the only one."""


class MachineParts(Parts):
    """The parts of the contract where each instance is a machine that boots *files*."""

    patience = 6.0
    held = 4.0

    def __init__(self, installation: Installation, image: Path, files: DiskFiles) -> None:
        super().__init__(installation, image)
        self.files = files

    def release(self, name: str) -> Release:
        """See ``Parts.release``."""
        return replace(super().release(name), disk=DISK)

    def engine(self) -> LocalEngine:
        """See ``Parts.engine``."""
        machines = Machines(self.installation, OneDisk(self.files), lambda _: CONFIG)
        return LocalEngine(
            self.installation, ErofsRoots(self.installation, self.image), lambda _: CONFIG,
            cgroup_parent=self.parent, secrets=Given(), machines=machines,
        )  # fmt: skip

    def over(
        self, engine: LocalEngine, router: HaproxyRouter, fence: Callable[[], AbstractContextManager[None]]
    ) -> Platform:
        """See ``Parts.over``."""
        lacks = (Capability.TERMINALS,)
        return InstancePlatform(VmEngine(engine), router, Prober(now), now, fence, lacks=lacks)
