"""What was taken back: which images and disks may not be deployed any more, and why. Pure.

A release may not when its image may not, or its disk. One of these may not when it was revoked itself, or when every
key that ever signed it was. What runs already goes on running: to end it is a deployment or a rollback of its own.
"""

from __future__ import annotations

from stelae.domain.digest import Digest, short
from stelae.domain.errors import Refused
from stelae.domain.release import Release
from stelae.domain.state import InstallationState


def revocation(state: InstallationState, image: Digest) -> str:
    """Return why *image*, or disk, may not be deployed any more, an empty text when it may."""
    found, name = state.revoked.get(image), f"{'disk' if image in state.disks else 'image'} {short(image)}"
    if found is not None:
        return f"{name} was revoked {found}"
    signed = state.attested.get(image, ())
    if signed and all(item.key in state.revoked for item in signed):
        key = signed[-1].key
        return f"{name} is signed only by the key {key[:8]}, which was revoked {state.revoked[key]}"
    return ""


def of_release(state: InstallationState, release: Release) -> str:
    """Return why *release* may not be deployed any more, by its image or its disk; an empty text when it may."""
    return revocation(state, release.image) or (revocation(state, release.disk) if release.disk else "")


def admit_release(state: InstallationState, release: Release) -> None:
    """Raise Refused when the image or the disk of *release* may not be deployed any more."""
    admit(state, release.image)
    if release.disk is not None:
        admit(state, release.disk)


def admit(state: InstallationState, image: Digest) -> None:
    """Raise Refused when *image*, or disk, may not be deployed any more."""
    why = revocation(state, image)
    if why and image in state.revoked:
        raise Refused(why, hint="what was revoked never comes back, built again or not: deploy another commit")
    if why:
        raise Refused(why, hint="build its commit again: that signs it with a key that counts")


def banned(state: InstallationState) -> frozenset[Digest]:
    """Return the images and disks that may not be deployed any more."""
    known = {*state.attested, *(Digest(name) for name in state.revoked if name.startswith("sha256:"))}
    return frozenset(image for image in known if revocation(state, image))
