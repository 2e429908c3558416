"""Disks in random lives: environments of virtual machines, disks that are made of other packages, and their laws.

The laws keep their own account of what was verified: each time an image together with the disk that was booted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from stelae.controller.record import Record
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState, InstallationState
from stelae.domain.units import GIB, MIB
from stelae.testing.chance import drawn

if TYPE_CHECKING:
    from stelae.testing.machine import Machine
    from stelae.testing.simulation import World

S = TypeVar("S", bound=Any)

MEMORY = 64 * GIB
"""What the simulated machine has: enough for whatever a life asks for, on whichever machine it is lived."""


def disk_of(image: Digest, packages: int) -> Disk:
    """Return the disk of *image* that is made of the packages of that number."""
    name = f"disk of {image} with {packages}"
    return Disk(
        digest=digest_of(name.encode()), image=image, raw=digest_of(f"raw {name}".encode()), size=64 * MIB,
        root_hash=digest_of(b"root").removeprefix("sha256:"), uki=digest_of(b"uki"), kernel=f"6.1.{packages}",
    )  # fmt: skip


class Maker:
    """Makes disks at once, of the packages that *machine* has now."""

    def __init__(self, record: Record, machine: Machine) -> None:
        self.record = record
        self._machine = machine

    async def ensure(self, actor: str, image: Image) -> Disk:
        """See ``stelae.controller.artifacts.DiskMaker``."""
        disk = disk_of(image.digest, self._machine.packages)
        if disk.digest not in self.record.state.disks:
            await self.record.append([ev.DiskBuilt(disk=disk, commit="c" * 40)], actor=actor)
        return disk


def with_machines(
    seed: str, steps: Sequence[S], environments: tuple[str, ...], step: Callable[..., S]
) -> tuple[S, ...]:
    """Return the life of *seed*, in some of the lives on virtual machines, whatever else is drawn. In a few of them
    only some of the environments are, and what is promoted comes to the wrong ones."""
    chance = drawn(seed, "machines")
    if chance.random() < (0.75 if len(environments) == 1 else 0.5):
        return tuple(steps)
    mixed = chance.random() < 0.2
    held = {name: not mixed or chance.random() < 0.5 for name in environments}
    lived: list[S] = []
    for one in steps:
        if one.what == "apply":
            other = chance.random() < 0.1
            one = replace(one, args={**one.args, "machines": held[one.args["env"]] is not other})
        if one.what in ("deploy", "promote") and chance.random() < 0.4:
            args = {"image": one.args.get("image", 0), "made": chance.random() < 0.5}
            lived.append(step(what="packages", args=args, wait=chance.choice((0, 0.1))))
        lived.append(one)
    return tuple(lived)


def _packages(world: World, args: Mapping[str, Any]) -> None:
    """Disks are made of other packages from now on; of one image somebody makes one at once."""
    from stelae.testing.steps import image

    world.machine.packages += 1
    world.faults.count("other packages")

    async def made() -> dict[str, Any]:
        disk = await world.controller.maker.ensure("ana", image(args["image"]))
        return {"disk": disk.digest}

    if args["made"]:
        world.request(f"packages-{len(world.story)}", made)


TAKE: dict[str, Callable[[World, Mapping[str, Any]], None]] = {"packages": _packages}
"""How the step is taken."""


Pair = tuple[Digest, Digest | None]


def pair(release: Release) -> Pair:
    """Return what is verified of *release*: its image together with the disk that boots."""
    return release.image, release.disk


def requested(state: InstallationState, env: EnvironmentState, event: ev.DeploymentRequested) -> str:
    """Say which law it breaks that *event*'s release is asked for in *env*, "" for none."""
    release = event.release
    boots = env.config is not None and env.config.platform.boots
    if event.deployment_kind is DeploymentKind.DEPLOY and boots is not (release.disk is not None):
        return f"law 2: {event.deployment} is not of what {env.id} starts"
    if release.disk is None:
        return ""
    built = state.disks.get(release.disk)
    if built is None or built.disk.image != release.image:
        return f"law 2: {event.deployment} is of a disk that was not made of its image"
    return ""
