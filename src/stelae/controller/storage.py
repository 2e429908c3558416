"""Use cases on what is stored: sources that arrive, builds, locks."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from stelae.attest.provenance import Build
from stelae.build.builder import Builder, BuildRequest, BuildResult
from stelae.build.config import FORMAT, architecture
from stelae.build.mirror import Mirror
from stelae.build.request import DiskResult, LockResult
from stelae.controller.background import Background, Tell
from stelae.controller.disk_builds import DiskBuilds
from stelae.controller.proofs import Proofs
from stelae.controller.record import Record
from stelae.controller.space import Space
from stelae.domain import event as ev
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.image import Source
from stelae.domain.units import HOUR, SECOND, Instant

Json = dict[str, Any]

NO_NEWS = HOUR
"""A build that gives again what this short a time ago was built from the same source is not recorded."""

DISK = "disk"
"""What is asked for besides the image."""

LONGEST_REASON = 2_000
"""Characters of a failed build's reason that are recorded: an entry of the record has a limit."""


class Storage:
    """Sources, images and their space on the disk."""

    def __init__(
        self, record: Record, mirror: Mirror, builder: Builder, clock: Callable[[], Instant], space: Space,
        proofs: Proofs | None = None, disks: DiskBuilds | None = None,
    ) -> None:  # fmt: skip
        self._proofs = proofs
        self._disks = disks
        self._record = record
        self._mirror = mirror
        self._builder = builder
        self._clock = clock
        self._space = space
        self._background = Background()
        self._unsigned: dict[Digest, asyncio.Event] = {}
        """Images that were told of, and are being signed."""

    async def settled(self) -> None:
        """Return when all is signed of which a build has told: until then nothing may be asked that it matters to."""
        for ended in list(self._unsigned.values()):
            await ended.wait()

    async def missing(self, repository: str, objects: list[str]) -> Json:
        """See ``Service.missing``."""
        return {"missing": await to_thread.run_sync(self._mirror.missing, repository, objects)}

    async def receive(self, repository: str, pack: Path) -> Json:
        """See ``Service.receive``."""
        return {"objects": await to_thread.run_sync(self._mirror.receive, repository, pack)}

    async def build(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.build``. The image is recorded before its digest is told, and also when the client left. It
        is signed after that; when it cannot be signed, the stream fails after its result, and that is recorded. A
        disk is made of an image that is signed."""
        wanted = request.get("artifact", "image")
        source = Source(
            repository=request["repository"], commit=request["commit"], path=request["path"],
            subject=request["subject"], versioned=request["versioned"],
        )  # fmt: skip
        asked = BuildRequest(
            repository=source.repository, commit=source.commit, path=source.path,
            offline=request.get("offline", False), secrets=secrets_of(request),
        )  # fmt: skip

        owed: list[tuple[Proofs, Build]] = []

        async def work(tell: Tell) -> Json:
            async with self._failures_recorded(actor, source):
                if not self._record.ledger.room():
                    raise Failed("the disk is nearly full; nothing was built", hint="make room: stelae gc")
                async with self._space.used():
                    result = await to_thread.run_sync(self._builder.build, asked, tell)
                    owed.extend(await self._built(actor, source, result))
                    disk = None
                    if wanted == DISK:
                        await sign()
                        disk = await self._disk(actor, source, asked, result, tell)
            return {**_result(result), "disk": None if disk is None else disk_view(disk)}

        async def sign() -> None:
            while owed:
                proofs, build = owed.pop()
                try:
                    async with self._space.used():
                        await proofs.attest(build)
                finally:
                    self._unsigned.pop(build.image.digest).set()

        async def sign_later() -> None:
            async with self._failures_recorded(actor, source):
                await sign()

        async for item in self._background.streamed(work, sign_later):
            yield item

    @asynccontextmanager
    async def _failures_recorded(self, actor: str, source: Source) -> AsyncIterator[None]:
        try:
            yield
        except StelaeError as error:
            reason = str(error)[:LONGEST_REASON]
            await self._record.append([ev.BuildFailed(source=source, reason=reason)], actor=actor)
            raise

    async def _disk(
        self, actor: str, source: Source, asked: BuildRequest, built: BuildResult, tell: Tell
    ) -> DiskResult:  # fmt: skip
        if self._disks is None:
            raise Failed("no disks are made here")
        return await self._disks.build(
            actor, built.image, source, built.lock, tell, offline=asked.offline, secrets=asked.secrets
        )

    async def _built(self, actor: str, source: Source, result: BuildResult) -> list[tuple[Proofs, Build]]:
        """Record the build, and return it when what it made has to be signed, and by what; one that gave again what
        was built a short while ago from the same source, and what was signed, is no news."""
        while (ended := self._unsigned.get(result.image.digest)) is not None:
            await ended.wait()
        finished = self._clock()
        wanting = self._proofs is not None and self._proofs.wanting(result.image.digest, source)
        known = self._record.state.images.get(result.image.digest)
        recent = known is not None and source in known.sources and finished - known.last_built_at < NO_NEWS
        if recent and not wanting:
            return []
        lock = digest_of(result.lock.encode())
        event = ev.ImageBuilt(image=result.image, source=source, lock=lock, format=FORMAT)
        if self._proofs is None or not wanting:
            await self._record.append([event], actor=actor, urgent=False)
            return []
        self._unsigned[result.image.digest] = asyncio.Event()  # before anything else may happen
        try:
            (recorded,) = await self._record.append([event], actor=actor, urgent=False)
        except BaseException:  # nobody waits for what never was told
            self._unsigned.pop(result.image.digest).set()
            raise
        build = Build(
            image=result.image, source=source, inputs=result.inputs, lock=lock, format=FORMAT,
            architecture=architecture(), index=recorded.index, network=result.network,
            started=finished - int(result.seconds * SECOND), finished=finished,
        )  # fmt: skip
        return [(self._proofs, build)]

    async def lock(self, request: Json) -> AsyncIterator[Json]:
        """See ``Service.lock``."""
        asked = BuildRequest(
            repository=request["repository"], commit=request["commit"], path=request["path"],
            secrets=secrets_of(request),
        )  # fmt: skip

        async def work(tell: Tell) -> Json:
            async with self._space.used():
                made = partial(self._builder.lock, asked, tell, upgrade=request.get("upgrade", False))
                return _locked(await to_thread.run_sync(made))

        async for item in self._background.streamed(work):
            yield item


def secrets_of(request: Json) -> dict[str, bytes]:
    """Return the values of secrets, which are in base64; raises InvalidInput that shows none."""
    try:
        return {name: base64.b64decode(text, validate=True) for name, text in request.get("secrets", {}).items()}
    except ValueError:
        raise InvalidInput("a secret is not in base64", where="request") from None


def _result(built: BuildResult) -> Json:
    return {
        "image": built.image.digest, "app": built.image.app, "created": built.created, "seconds": built.seconds,
        "locked": built.locked or not built.inputs,
        "layers": [
            {"name": item.name, "digest": item.digest, "size": item.size, "cached": item.cached}
            for item in built.layers
        ],
    }  # fmt: skip


def disk_view(made: DiskResult) -> Json:
    """Return what a client is told of a disk that was made, or found."""
    disk = made.disk
    return {
        "disk": disk.digest, "created": made.created, "raw": disk.raw, "size": disk.size, "root_hash": disk.root_hash,
        "kernel": disk.kernel, "locked": made.locked, "seconds": made.seconds,
    }  # fmt: skip


def _locked(made: LockResult) -> Json:
    return {
        "lock": made.text,
        "changes": [asdict(change) for change in made.changes],
        "archives": [asdict(change) for change in made.archives],
    }
