"""What was verified here is signed, for other controllers; and whose word on what was verified there counts here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import structlog
from anyio import to_thread

from stelae.attest import verification
from stelae.attest.keys import parse_public
from stelae.controller.proofs import Proofs
from stelae.controller.record import CONTROLLER, Record
from stelae.controller.space import Space
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, StelaeError
from stelae.domain.promotion import Verification
from stelae.images.layout import Layout

Json = dict[str, Any]

AGAIN = 60.0
"""Seconds after which what could not be signed is tried again."""

log = structlog.get_logger(__name__)


class Verifications:
    """Signs, with the key that signs images, what the record says was verified, and keeps it in *layout*."""

    def __init__(self, record: Record, layout: Layout, proofs: Proofs, space: Space) -> None:
        self._record = record
        self._layout = layout
        self._proofs = proofs
        self._space = space
        self._news = asyncio.Event()

    async def keep_signing(self) -> None:
        """Sign what is not signed yet, now and whenever an image is verified, until cancelled."""
        self._record.listen(lambda item: self._news.set() if isinstance(item.event, ev.ImageVerified) else None)
        while True:
            self._news.clear()
            done = True
            for name, artifact, fact in list(self._unsigned()):
                done &= await self._sign(name, artifact, fact)
            try:
                async with asyncio.timeout(None if done else AGAIN):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _unsigned(self) -> Iterator[tuple[EnvironmentId, Digest, Verification]]:
        """What the loop recorded as verified, of images and disks that are here."""
        for env in self._record.state.environments.values():
            for artifact, fact in env.verifications.items():
                if fact.evidence and not fact.statement and self._layout.has(artifact):
                    yield env.id, artifact, fact

    async def _sign(self, name: EnvironmentId, artifact: Digest, fact: Verification) -> bool:
        try:
            key = await self._proofs.signing_key()
            said = verification.said(artifact, name, fact, self._record.state.size)
            async with self._space.used():
                statement = await to_thread.run_sync(partial(verification.keep, self._layout, said, key))
            disk = self._record.state.disks.get(artifact)
            event = ev.VerificationSigned(
                image=disk.disk.image if disk is not None else artifact, disk=artifact if disk is not None else None,
                deployment=fact.deployment, key=key.public.id, statement=statement,
            )  # fmt: skip
            await self._record.append([event], actor=CONTROLLER, environment=name, urgent=False)
        except (StelaeError, OSError) as error:
            log.warning("verification.not_signed", environment=name, artifact=artifact, problem=str(error))
            return False
        return True

    async def trust(self, actor: str, request: Json) -> Json:
        """See ``Service.trust``."""
        key, name = parse_public(request["pem"]), EnvironmentId(request["verifies"])

        def events() -> list[ev.Event]:
            state = self._record.state
            if key.id in state.revoked:
                raise Conflict(f"key {key.id[:8]} was revoked", hint="a revoked key never comes back: use another")
            if key.id in state.verifiers.get(name, {}):
                return []
            return [ev.VerifierTrusted(key=key.id, pem=key.pem, verifies=name)]

        await self._record.append(events, actor=actor)
        return {"key": key.id, "verifies": name}
