"""Forms: what can be launched where one process of this machine stands for an instance.

A process of its image is one form (``container.py``); a machine whose emulator is that process is another one
(``stelae.platforms.vm``). The launcher, the engine and the inspections do with every form what they do with each:
conmon and the runtime hold the process in its control group, its network namespace and its system call filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, Protocol

from stelae.domain.digest import Digest
from stelae.domain.drift import Finding
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.release import Release
from stelae.images.roots import LayerFile
from stelae.platforms.local.place import Place
from stelae.platforms.port import LaunchSpec

if TYPE_CHECKING:
    from stelae.platforms.local.inspect.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a bundle needs to know of the machine."""

    seccomp: Mapping[str, Any]
    cgroup_path: str
    unified: bool  # cgroup v2
    limits_swap: bool
    gateway: IPv4Address


class Form(Protocol):
    """How instances of one form are launched and inspected. Blocking; used from threads."""

    @property
    def programs(self) -> str:
        """Where in an instance's root the programs are that its processes run, as ``/usr``; "" where all of the root
        is theirs."""

    @property
    def tap(self) -> int | None:
        """The user who may open the tap that has the instance's address; None where its process has it itself."""

    def prepare(self, release: Release) -> None:
        """Have all that is needed to launch *release*; raises Failed."""

    def room(self, values: Mapping[str, bytes]) -> int:
        """Return how many bytes its private place has to hold, with the *values* of its secrets; 0 for none."""

    def write(
        self, place: Place, spec: LaunchSpec, address: IPv4Address, values: Mapping[str, bytes], host: Host
    ) -> None:
        """Write the bundle of *spec*, and whatever it needs, to its place; raises Failed, OSError."""

    def files(self, release: Release) -> tuple[LayerFile, ...]:
        """Return the files of digests that an instance of *release* runs on; raises Failed."""

    def distrust(self, content: Digest, file: tuple[int, int]) -> None:
        """Have whoever is launched next get another file of this content than this one (device and inode)."""

    def against(self, scene: Scene) -> Iterator[Finding]:
        """Yield what the bundle has otherwise than the release: looked at once."""

    def check(self, scene: Scene) -> Iterator[Finding]:
        """Yield what else is wrong with a running instance: looked at in each sweep."""


class Forms:
    """The forms of one machine: *containers*, and *machines* where they are there."""

    def __init__(self, containers: Form, machines: Form | None = None) -> None:
        self._containers = containers
        self._machines = machines
        self._releases: dict[Digest, Release] = {}

    def of(self, release: Release) -> Form:
        """Return the form of the instances of *release*: one that names a disk is launched as a machine. Raises
        Failed where there are none."""
        self._releases[key_of(release)] = release
        if release.disk is None:
            return self._containers
        if self._machines is None:
            raise Failed("this machine launches no virtual machines", hint="see: stelae doctor")
        return self._machines

    def files(self, digest: Digest) -> tuple[LayerFile, ...]:
        """Return the files that instances of the image or the disk *digest* run on; raises Failed."""
        release = self._releases.get(digest)
        if release is None:
            raise Failed(f"nothing of {digest} was launched or inspected")
        return self.of(release).files(release)

    def distrust(self, content: Digest, file: tuple[int, int]) -> None:
        """See ``Form.distrust``."""
        for form in (self._containers, self._machines):
            if form is not None:
                with suppress(StelaeError):
                    form.distrust(content, file)


def key_of(release: Release) -> Digest:
    """Return by what the files of *release* are known."""
    return release.disk or release.image
