"""Use cases of trust: sign what was built, tell which keys count, take back an image or a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from anyio import to_thread

from stelae.attest import disks, signing
from stelae.attest.contents import Inspector
from stelae.attest.disks import DiskBuild
from stelae.attest.keys import Keys, PrivateKey, PublicKey, parse_private, parse_public
from stelae.attest.provenance import Build
from stelae.controller import references
from stelae.controller.record import CONTROLLER, Record
from stelae.core import phases, trust
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Conflict, InvalidInput
from stelae.domain.image import Source
from stelae.domain.state import EnvironmentState, InstallationState, Phase
from stelae.domain.trust import Revocation, TrustedKey
from stelae.images.layout import Layout
from stelae.ledger.store import Draft

Json = dict[str, Any]


class Proofs:
    """Signs images in *layout* with the key in *keys*, which is made when it is needed first."""

    def __init__(self, record: Record, layout: Layout, inspector: Inspector, keys: Keys) -> None:
        self._record = record
        self._layout = layout
        self._inspector = inspector
        self._keys = keys
        self._making = asyncio.Lock()

    def wanting(self, image: Digest, source: Source) -> bool:
        """Say whether nothing that counts was said yet of *image*, or disk, as built from *source*."""
        state = self._record.state
        signed = state.attested.get(image, ())
        return not any(item.commit == source.commit and item.key not in state.revoked for item in signed)

    async def attest(self, build: Build) -> None:
        """Sign what *build* made, and record it; raises Failed when it cannot be signed."""
        key = await self.signing_key()
        signed = await to_thread.run_sync(signing.attest, self._layout, self._inspector, build, key)
        await self._attested(build.image.digest, build.source, signed)

    async def attest_disk(self, build: DiskBuild) -> None:
        """Sign the disk that *build* made, and record it; raises as ``attest``."""
        key = await self.signing_key()
        signed = await to_thread.run_sync(disks.attest, self._layout, self._inspector, build, key)
        await self._attested(build.disk.digest, build.source, signed)

    async def _attested(self, name: Digest, source: Source, signed: signing.Signed) -> None:
        event = ev.ImageAttested(image=name, key=signed.key, commit=source.commit, statements=dict(signed.statements))
        await self._record.append([event], actor=CONTROLLER, urgent=False)

    async def signing_key(self) -> PrivateKey:
        """Return the key that signs: the one that is kept, or a new one when there is none or it was revoked."""
        async with self._making:
            key = await to_thread.run_sync(self._keys.signing)
            if key is None or key.public.id in self._record.state.revoked:
                key = self._keys.make()
                await to_thread.run_sync(self._keys.keep, key)
            await self._trust(key.public, CONTROLLER, signs=True)
            return key

    async def _trust(self, key: PublicKey, actor: str, *, signs: bool) -> None:
        def events() -> list[ev.Event]:
            known = self._record.state.keys.get(key.id)
            if key.id in self._record.state.revoked:
                raise Conflict(f"key {key.id[:8]} was revoked", hint="a revoked key never comes back: use another")
            if known is not None and known.signs >= signs:
                return []
            return [ev.KeyTrusted(key=key.id, pem=key.pem, signs=signs)]

        await self._record.append(events, actor=actor)

    async def keys(self) -> Json:
        """See ``Service.keys``."""
        current = await to_thread.run_sync(self._keys.signing)
        return {"keys": _keys(self._record.state, current.public.id if current else "")}

    async def import_key(self, actor: str, text: str) -> Json:
        """See ``Service.import_key``."""
        if "PRIVATE KEY" not in text:
            key = parse_public(text)
            await self._trust(key, actor, signs=False)
            return {"key": key.id}
        private = parse_private(text.encode())
        async with self._making:
            await self._trust(private.public, actor, signs=True)
            await to_thread.run_sync(self._keys.keep, private)
        return {"key": private.public.id}

    async def revoke(self, actor: str, ref: str, reason: str) -> Json:
        """See ``Service.revoke``. A deployment under way of what is revoked goes back."""
        if not reason.strip():
            raise InvalidInput("why is it revoked?", hint="give --reason; it is kept in the record")
        name = key_id(self._record.state, ref) if ref.startswith("k-") else self._image(ref)

        def drafts() -> list[Draft]:
            state = self._record.state
            if name in state.revoked:
                raise Conflict(f"{ref} was revoked before {state.revoked[name]}")
            revocation = Revocation(actor=actor, at=0, reason=reason)
            after = replace(state, revoked={**state.revoked, name: revocation})
            ends = [
                Draft(event=event, actor=actor, environment=env.id)
                for env in after.environments.values()
                for event in _going_back(after, env)
            ]
            return [Draft(event=ev.Revoked(name=name, reason=reason), actor=actor), *ends]

        # Together: nothing of it goes on when the controller ends in between.
        await self._record.append_drafts(drafts, urgent=True)
        return {"revoked": name, "running": self._running()}

    def _image(self, ref: str) -> str:
        return references.artifact(self._record.state, ref)

    def _running(self) -> list[str]:
        """The environments that run what may not be deployed any more."""
        state = self._record.state
        stables = ((env, env.releases[env.stable]) for env in state.environments.values() if env.stable)
        return [env.id for env, stable in stables if not env.down and trust.of_release(state, stable)]


def _going_back(state: InstallationState, env: EnvironmentState) -> Iterator[ev.Event]:
    """End the deployment under way in *env* when by *state* its image or its disk may not be deployed any more."""
    rollout = env.rollout
    if rollout is None or rollout.phase is Phase.REVERTING or rollout.candidate == rollout.stable:
        return
    why = trust.of_release(state, env.releases[rollout.candidate])
    if why:
        yield phases.called_off(env, rollout, why)


def key_id(state: InstallationState, ref: str) -> str:
    """Return the id of the key whose id begins with *ref*; raises InvalidInput for none or several."""
    known = {*state.keys, *(name for keys in state.verifiers.values() for name in keys)}
    found = [name for name in known if name.startswith(ref)]
    if len(found) != 1:
        what = "no key" if not found else f"{len(found)} keys"
        raise InvalidInput(f"{what} {ref!r}", hint="stelae key list shows them")
    return found[0]


def _keys(state: InstallationState, current: str) -> list[Json]:
    return [
        {
            "key": key.id, "pem": key.pem, "added_by": key.actor, "added_at": key.at,
            "signs": key.id == current and key.id not in state.revoked,
            "counts": key.id in state.keys,
            "verifies": [name for name, keys in state.verifiers.items() if key.id in keys],
            "revoked": revocation_view(state, key.id),
        }
        for key in _known(state).values()
    ]  # fmt: skip


def _known(state: InstallationState) -> dict[str, TrustedKey]:
    """All keys: those whose signatures of images count, and those of other controllers."""
    verifiers = {name: key for keys in state.verifiers.values() for name, key in keys.items()}
    return {**state.keys, **{name: key for name, key in verifiers.items() if name not in state.keys}}


def revocation_view(state: InstallationState, name: str) -> Json | None:
    """Return who revoked *name* (an image or a key), when and why, None when nobody did."""
    found = state.revoked.get(name)
    return {"by": found.actor, "at": found.at, "reason": found.reason} if found else None
