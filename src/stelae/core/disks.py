"""Disks: which of those that were made of an image a release takes, where each instance is a machine. Pure.

Where images have to come from another environment, the disk that was verified there is taken, to the byte; else the
one that was made last.
"""

from __future__ import annotations

from stelae.core import verification
from stelae.core.held import boots
from stelae.domain.digest import Digest, short
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput, Refused
from stelae.domain.release import Release, short_release
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.domain.units import Instant


def of_image(state: InstallationState, image: Digest) -> tuple[Digest, ...]:
    """Return the disks that were made of *image*, the one that was made last first."""
    found = [built for built in state.disks.values() if built.disk.image == image]
    ordered = sorted(found, key=lambda built: (built.last_built_at, built.disk.digest), reverse=True)
    return tuple(built.disk.digest for built in ordered)


def newest(state: InstallationState, image: Digest) -> Digest:
    """Return the disk that was made of *image* last; raises InvalidInput where none was."""
    found = of_image(state, image)
    if not found:
        raise InvalidInput(
            f"no disk was made of image {short(image)}", hint="make one of its commit: stelae build --artifact disk"
        )
    return found[0]


def verified(state: InstallationState, origin: EnvironmentId, image: Digest, now: Instant) -> Digest | None:
    """Return the disk of *image* that was verified in *origin* last and counts as that; None where there is none."""
    env = state.environments.get(origin)
    facts = {disk: verification.standing(env, disk, now).verification for disk in of_image(state, image)}
    found = [(fact.at, disk) for disk, fact in facts.items() if fact is not None]
    return max(found)[1] if found else None


def fits(state: InstallationState, env: EnvironmentState, release: Release) -> None:
    """Raise Refused when *release* is not of the form that *env* starts: a disk where it boots machines, and none
    where it does not; or when its disk is none that is known to be made of its image."""
    name, hint = short_release(release.id), f"deploy its image: stelae deploy {env.id} --image {short(release.image)}"
    if release.disk is None:
        if boots(env):
            raise Refused(f"{name} has no disk, and {env.id} is held by virtual machines, which boot one", hint=hint)
        return
    if not boots(env):
        raise Refused(f"{name} is of a disk, and {env.id} is not held by virtual machines", hint=hint)
    built = state.disks.get(release.disk)
    if built is None or built.disk.image != release.image:
        raise Refused(
            f"disk {short(release.disk)} was not made of image {short(release.image)}, as far as is known here",
            hint=hint,
        )
