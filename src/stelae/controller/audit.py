"""Use cases of the audit: the record published as a log, receipts of its events, the full check.

Publishing goes on beside the loops, some time after an event was recorded and with all that came meanwhile. When it
cannot, the record goes on; the controller's log says why, and so does whoever asks for a receipt or a check.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from typing import Any, TypeVar

import structlog
from anyio import to_thread

from stelae.controller import references
from stelae.controller.following import Pace, follow
from stelae.controller.record import Record
from stelae.controller.recovery.export import evidence_members, log_members
from stelae.controller.witnesses import Witnesses
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.event import DeploymentRequested
from stelae.domain.units import KIB
from stelae.images.layout import Layout
from stelae.images.pack import Member, packed
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.log_key import log_name, log_signer
from stelae.ledger.note import Signer
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.system.installation import Installation

Json = dict[str, Any]
log = structlog.get_logger(__name__)

PACE = Pace(step=0.0, rest=1.0, again=30.0)
"""Between two checkpoints, when nobody asks for one, is a second."""

_PAGE = 500

_PIECE = 256 * KIB
"""Bytes of an archive that are sent at once."""

_T = TypeVar("_T")


class Audit:
    """The log of *record*, published in the folder of *installation*."""

    def __init__(self, record: Record, installation: Installation) -> None:
        self._record = record
        self._installation = installation
        self._files = Published(installation.log)
        self._publisher = Publisher(record.ledger, self._files, self._key)
        self.witnesses = Witnesses(record, self._publisher)

    async def keep_publishing(self) -> None:
        """Publish what is recorded, and have it witnessed, until cancelled. What goes wrong is logged, and disturbs
        nobody."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_publishing())
            group.create_task(self.witnesses.keep_asking())

    async def _keep_publishing(self) -> None:
        told = ""
        async for problem in follow(self._record, self._publisher.step, PACE):
            if problem not in ("", told):
                log.warning("log.not_published", problem=problem)
            told = problem
            if not problem and self._publisher.restored:
                missing = [tile.path for tile in self._publisher.restored]
                log.warning("log.files_were_missing", count=len(missing), first=missing[0])
                self._publisher.restored = ()

    async def receipt(self, ref: str, witnessed: bool = False) -> Json:
        """See ``Service.receipt``."""
        index = await to_thread.run_sync(_on_disk, lambda: self._index(ref))
        if witnessed and not await to_thread.run_sync(self._cosigned, index):
            await self.witnesses.ask()

        def prove() -> Json:
            cosigned = self._cosigned(index)
            if witnessed and not cosigned:
                raise _not_witnessed(self.witnesses.report())
            receipt = self._publisher.receipt(index, cosigned)
            checkpoint = receipt.check(self._publisher.signer().verifier)
            return {
                "index": index, "size": checkpoint.size, "origin": checkpoint.origin, "text": receipt.text.decode(),
            }  # fmt: skip

        return await to_thread.run_sync(_on_disk, prove)

    def _cosigned(self, index: int) -> bytes:
        """Return the newest checkpoint with the cosignatures that it needs, b"" when event *index* is not in it, or
        nobody has to cosign."""
        found = self._publisher.witnessed() if self._record.state.witnesses else None
        return found[1] if found is not None and index < found[0].size else b""

    async def consistency(self, old: int) -> Json:
        """See ``Service.consistency``."""

        def prove() -> Json:
            checkpoint, signed = self._publisher.signed()
            hashes = self._publisher.growth(old, checkpoint.size) if old <= checkpoint.size else ()
            return {
                "size": checkpoint.size, "origin": checkpoint.origin, "checkpoint": signed.decode(),
                "hashes": [base64.b64encode(item).decode() for item in hashes],
            }  # fmt: skip

        return await to_thread.run_sync(_on_disk, prove)

    async def policy(self) -> Json:
        """See ``Service.witness_policy``."""
        return self.witnesses.policy()

    async def set_policy(self, actor: str, text: str) -> Json:
        """See ``Service.set_witness_policy``."""
        return await self.witnesses.set_policy(actor, text)

    async def log_key(self) -> Json:
        """See ``Service.log_key``."""
        verifier = (await to_thread.run_sync(_on_disk, self._publisher.signer)).verifier
        return {"origin": verifier.name, "key": verifier.vkey}

    async def verify(self) -> Json:
        """See ``Service.verify_ledger``."""
        ledger = self._record.ledger
        checkpoint = await to_thread.run_sync(_on_disk, self._publisher.check)
        found = await to_thread.run_sync(self._publisher.witnessed) if self._record.state.witnesses else None
        return {
            "size": ledger.size, "root": ledger.root, "origin": checkpoint.origin, "published": checkpoint.size,
            "published_root": checkpoint.root.hex(), "witnessed": found[1].decode() if found is not None else "",
            "witnessing": self.witnesses.report(),
        }  # fmt: skip

    async def export(self, evidence: bool) -> AsyncIterator[Json]:
        """See ``Service.export_log``. Each piece is made when the one before is on its way."""
        images = frozenset(self._record.state.images) if evidence else None  # all named by what is published next

        def begin() -> tuple[bytes, Generator[bytes, None, None]]:
            self._publisher.publish()
            signed = self._files.checkpoint()
            assert signed is not None
            return signed, self._pieces(signed, images)

        signed, pieces = await to_thread.run_sync(_on_disk, begin)
        checkpoint = open_checkpoint(signed, self._publisher.signer().verifier)
        whole, count = hashlib.sha256(), 0
        with closing(pieces):
            while data := await to_thread.run_sync(_on_disk, lambda: next(pieces, b"")):
                whole.update(data)
                count += len(data)
                yield {"progress": {"data": base64.b64encode(data).decode()}}
        yield {"result": {
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(), "bytes": count,
            "sha256": whole.hexdigest(),
        }}  # fmt: skip

    def _pieces(self, signed: bytes, images: frozenset[Digest] | None) -> Generator[bytes, None, None]:
        """Yield the archive; its evidence is in use meanwhile, so that no garbage collection takes it."""
        layout, verifier = Layout(self._installation.images), self._publisher.signer().verifier

        def members() -> Iterator[Member]:
            yield from log_members(self._record.ledger, signed, verifier)
            if images is not None:
                with layout.in_use():
                    yield from evidence_members(layout, images)

        held = bytearray()
        for piece in packed(members()):
            held += piece
            if len(held) >= _PIECE:
                yield bytes(held)
                held.clear()
        yield bytes(held)

    def _key(self, may_make: bool) -> Signer:
        name = log_name(socket.gethostname(), self._installation.name)
        return log_signer(self._installation.keys / "log", name, may_make=may_make)

    def _index(self, ref: str) -> int:
        """Return the index of the event that *ref* names: of a deployment, the one by which it was asked for."""
        ledger = self._record.ledger
        if ref.isdecimal():
            if int(ref) >= ledger.size:
                raise InvalidInput(f"there is no event {ref}: the record has {ledger.size}")
            return int(ref)
        _, deployment = references.deployment(self._record.state, ref)
        end = ledger.index_at(deployment.requested_at)
        while end > 0:
            start = max(0, end - _PAGE)
            for item in ledger.read(start, end):
                if isinstance(item.event, DeploymentRequested) and item.event.deployment == ref:
                    return item.index
            end = start
        raise Failed(f"the event that asked for {ref} is not in the record")


def _not_witnessed(report: Json) -> Failed:
    """Return the error for an event whose cosignatures are not there."""
    if not report["witnesses"]:
        return Failed("nobody has to cosign this log", hint="say who does: stelae audit policy set FILE")
    problems = tuple(f"{row['name']}: {row['problem']}" for row in report["witnesses"] if row["problem"])
    return Failed(f"not witnessed: {report['missing'] or 'it cannot be said why'} is missing", details=problems)


def _on_disk(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except StelaeError:
        raise
    except OSError as error:
        raise Failed(
            f"the log cannot be published: {error.strerror}", where=str(error.filename), hint="check the disk"
        ) from error
