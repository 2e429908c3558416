"""What was taken back: which images may not be deployed any more, and why. Pure.

An image may not when it was revoked itself, or when every key that ever signed it was. What runs already goes on
running: to end it is a deployment or a rollback of its own.
"""

from __future__ import annotations

from stelae.domain.digest import Digest, short
from stelae.domain.errors import Refused
from stelae.domain.state import InstallationState


def revocation(state: InstallationState, image: Digest) -> str:
    """Return why *image* may not be deployed any more, an empty text when it may."""
    found = state.revoked.get(image)
    if found is not None:
        return f"image {short(image)} was revoked {found}"
    signed = state.attested.get(image, ())
    if signed and all(item.key in state.revoked for item in signed):
        key = signed[-1].key
        return f"image {short(image)} is signed only by the key {key[:8]}, which was revoked {state.revoked[key]}"
    return ""


def admit(state: InstallationState, image: Digest) -> None:
    """Raise Refused when *image* may not be deployed any more."""
    why = revocation(state, image)
    if why and image in state.revoked:
        raise Refused(why, hint="a revoked image never comes back, built again or not: deploy another commit")
    if why:
        raise Refused(why, hint="build its commit again: that signs it with a key that counts")


def banned(state: InstallationState) -> frozenset[Digest]:
    """Return the images that may not be deployed any more."""
    known = {*state.attested, *(Digest(name) for name in state.revoked if name.startswith("sha256:"))}
    return frozenset(image for image in known if revocation(state, image))
