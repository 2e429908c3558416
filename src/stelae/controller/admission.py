"""Admission: what must be proven of an image before it may come into an environment. It fails closed.

Verified each time, from the bytes in the store and the keys in the record; nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping

from anyio import to_thread

from stelae.attest import verification
from stelae.attest.checking import Proof, check
from stelae.attest.verification import Verified
from stelae.controller.record import Record
from stelae.core import secrets, trust
from stelae.domain.digest import Digest, short
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.errors import Refused, StelaeError
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.domain.trust import Requirement, TrustedKey
from stelae.images.layout import Layout


class Admission:
    """Checks images in *layout*; without one nothing can be proven, and so nothing that is demanded is met."""

    def __init__(self, record: Record, layout: Layout | None) -> None:
        self._record = record
        self._layout = layout

    async def admit(self, env: EnvironmentState, release: Release) -> None:
        """Raise Refused when the image of *release*, its disk or a secret in it was revoked, or one of the first two
        does not prove what *env* requires."""
        trust.admit_release(self._record.state, release)
        secrets.admit(env, release)
        for refusal in await self.unproven(env, release):
            raise refusal

    async def unproven(self, env: EnvironmentState, release: Release) -> list[Refused]:
        """Return why the image of *release* does not come in, for each thing that *env* requires and it does not
        prove."""
        needs = ", ".join(env.config.require if env.config is not None else ())
        return [
            Refused(
                f"refused by policy: image {short(release.image)} {why}; {env.id} requires {needs}",
                hint=f"see it: stelae show {short(release.image)} · sign it again: stelae build, of its commit",
            )
            for why in (await self.lacking(env, release)).values()
            if why
        ]

    async def lacking(self, env: EnvironmentState, release: Release) -> dict[Requirement, str]:
        """Return what *env* requires, each with why the image of *release*, or its disk where it has one, does not
        prove it ("" when it does)."""
        needs = env.config.require if env.config is not None else ()
        if not needs:
            return {}
        proof = await self.proof(release.image)
        found = {need: proof.lacks(need) for need in needs}
        if release.disk is None:
            return found
        of_disk, name = await self.proof(release.disk), f"has a disk, {short(release.disk)}, that"
        lacks = {need: of_disk.lacks(need) for need in needs}
        return {need: why or (f"{name} {lacks[need]}" if lacks[need] else "") for need, why in found.items()}

    async def vouched(self, env: EnvironmentState, artifact: Digest) -> Verified | None:
        """Return the newest word of another controller that *artifact*, an image or a disk, was verified where it has
        to come from, by a key that counts for that; None where there is none, or none is needed."""
        origin = env.config.promote_from if env.config is not None else ""
        if not origin or env.config is None:
            return None
        return await self.word(environment_id(env.config.app, origin), artifact)

    async def word(self, origin: EnvironmentId, artifact: Digest) -> Verified | None:
        """Return the newest word of another controller that *artifact* was verified in *origin*, by a key that counts
        for that."""
        state = self._record.state
        keys = {name: key for name, key in state.verifiers.get(origin, {}).items() if name not in state.revoked}
        if not keys or self._layout is None:
            return None
        words = await to_thread.run_sync(_words, self._layout, artifact, {origin: keys})
        return max(words, key=lambda word: word.at, default=None)

    async def proof(self, image: Digest) -> Proof:
        """Return what is proven of *image*, or disk, with the keys that count now."""
        if self._layout is None:
            return Proof(image=image, problems=("nothing can be checked here: there is no image store",))
        return await to_thread.run_sync(verified, self._record.state, self._layout, image)


def _words(
    layout: Layout, image: Digest, keys: Mapping[EnvironmentId, Mapping[str, TrustedKey]]
) -> tuple[Verified, ...]:
    """What cannot be read does not count."""
    try:
        return verification.found(layout, image, keys)
    except (StelaeError, OSError):
        return ()


def verified(state: InstallationState, layout: Layout, image: Digest) -> Proof:
    """Return what is proven of *image* in *layout* with the keys that count in *state*."""
    keys = {key.id: key.pem for key in state.keys.values()}
    revoked = {name: str(state.revoked[name]) for name in keys if name in state.revoked}
    return check(layout, image, keys, revoked)
