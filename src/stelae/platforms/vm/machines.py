"""Machines: the form of an instance that is a virtual machine, which boots the disk that its release names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Protocol

from stelae.domain.digest import Digest
from stelae.domain.drift import Finding
from stelae.domain.errors import Failed, Unreachable
from stelae.domain.release import Release
from stelae.domain.units import KIB
from stelae.images.disks import DiskFiles
from stelae.images.roots import LayerFile
from stelae.platforms.local import private
from stelae.platforms.local.bundle import environment_of, files_of
from stelae.platforms.local.form import Host
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.place import Place
from stelae.platforms.port import LaunchSpec
from stelae.platforms.secret_values import variables_of
from stelae.platforms.user import user_in
from stelae.platforms.vm import bundle, checks
from stelae.platforms.vm.accelerator import accelerator
from stelae.platforms.vm.command import CONFIG, DISK, INITRD, KERNEL, PROGRAM, Machine, command_of
from stelae.platforms.vm.config_disk import Config, config_disk
from stelae.system.installation import Installation

_LARGEST_NAME = 63


class DiskSource(Protocol):
    """Who has the disks of releases as files."""

    def open(self, digest: Digest) -> DiskFiles:
        """Return the files of a disk, which are what its digest says; raises Failed."""

    def distrust(self, file: tuple[int, int]) -> None:
        """Have the disk that has this file (device and inode) made anew for whoever opens it next."""


class Machines:
    """Implements ``Form``. *disks* has the disks, *config* gives an image's OCI configuration. Safe for threads."""

    programs = "/usr"
    tap = bundle.USER

    def __init__(
        self, installation: Installation, disks: DiskSource, config: Callable[[Digest], Mapping[str, Any]]
    ) -> None:
        self._installation = installation
        self._disks = disks
        self._config = config

    def prepare(self, release: Release) -> None:
        """See ``Form.prepare``: its disk is there and verified, and QEMU is too."""
        if not Path(PROGRAM).exists():
            raise Unreachable("qemu-system-x86_64 is not installed", hint="install the package qemu-system-x86")
        bundle.ensure_root(self._installation)
        self._open(release)
        accelerator()

    def room(self, values: Mapping[str, bytes]) -> int:
        """See ``Form.room``: the config disk is there only while a machine is launched, whatever is in it."""
        return private.room_for(values) + 1024 * KIB

    def write(
        self, place: Place, spec: LaunchSpec, address: IPv4Address, values: Mapping[str, bytes], host: Host
    ) -> None:
        """See ``Form.write``."""
        if spec.debug is not None:
            raise Failed("a virtual machine runs one program: there are no debug sessions beside it")
        disk = self._open(spec.release)
        told = self._told(spec, address, values, host)
        file = place.private / "config"
        file.touch(0o400)
        file.write_bytes(told)
        os.chown(file, bundle.USER, bundle.USER)
        files = {DISK: disk.raw, KERNEL: disk.kernel, INITRD: disk.initrd, CONFIG: file}
        kind = accelerator()
        command = command_of(machine_of(place, spec, address, disk.cmdline, kind))
        digest = hashlib.sha256(told).hexdigest()
        bundle.write(place, spec, host, command, files, digest, native=kind == "kvm")

    def _told(self, spec: LaunchSpec, address: IPv4Address, values: Mapping[str, bytes], host: Host) -> bytes:
        image = self._config(spec.release.image)
        words = image.get("config") or {}
        files = files_of(spec, address, host.gateway)
        given = environment_of(spec, words.get("Env") or (), variables_of(spec.release, values))
        network = IPv4Interface((address, self._installation.subnet.prefixlen))
        return config_disk(
            Config(
                command=spec.process.command, variables=dict(item.partition("=")[::2] for item in given),
                secrets=values, user=user_in(image), folder=words.get("WorkingDir") or "/", address=network,
                gateway=str(host.gateway), hostname=spec.instance[:_LARGEST_NAME], hosts=files["/etc/hosts"],
                resolvers=files["/etc/resolv.conf"], tmpfs=spec.process.tmpfs,
            )
        )  # fmt: skip

    def files(self, release: Release) -> tuple[LayerFile, ...]:
        """See ``Form.files``: the disk, the kernel, and what starts it."""
        disk = self._open(release)
        found = ((disk.disk.raw, disk.raw), (disk.kernel_digest, disk.kernel), (disk.initrd_digest, disk.initrd))
        return tuple(
            LayerFile(digest=digest, file=file, point=file, content=digest.removeprefix("sha256:"))
            for digest, file in found
        )

    def distrust(self, content: Digest, file: tuple[int, int]) -> None:
        """See ``Form.distrust``."""
        self._disks.distrust(file)

    def against(self, scene: Scene) -> Iterator[Finding]:
        """See ``Form.against``."""
        cmdline = self._open(scene.spec.release).cmdline
        machine = machine_of(scene.place, scene.spec, scene.record.address, cmdline, checks.accelerator_in(scene))
        yield from checks.against_release(scene, machine)

    def check(self, scene: Scene) -> Iterator[Finding]:
        """See ``Form.check``."""
        yield from checks.check(scene)

    def _open(self, release: Release) -> DiskFiles:
        if release.disk is None:
            raise Failed("the release has no disk to boot", hint="deploy it again: stelae deploy")
        return self._disks.open(release.disk)


def machine_of(place: Place, spec: LaunchSpec, address: IPv4Address, cmdline: str, kind: str) -> Machine:
    """Return what the command line of the machine at *place* follows from."""
    return Machine(name=place.cid, process=spec.process, address=address, cmdline=cmdline, accelerator=kind)
