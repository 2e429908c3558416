"""Use cases of disks: an image of the record is made into a disk, or the one that there is of it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from anyio import to_thread

from stelae.attest.disks import DiskBuild
from stelae.build.config import architecture
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.disk_builder import DiskBuilder
from stelae.build.inputs import Inputs
from stelae.build.request import BuildRequest, DiskResult
from stelae.controller.background import Tell
from stelae.controller.proofs import Proofs
from stelae.controller.record import Record
from stelae.controller.space import Space
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import digest_of, parse_digest, short
from stelae.domain.errors import Failed
from stelae.domain.image import Image, Source
from stelae.domain.units import HOUR, SECOND, Instant
from stelae.images.disks import Disks

NO_NEWS = HOUR
"""A disk that is made again this short a time after it was made for the same commit is not recorded again."""


class DiskBuilds:
    """Makes disks with *builder* into the store of *disks*; *inputs* has the locks of images."""

    def __init__(
        self, record: Record, builder: DiskBuilder, disks: Disks, inputs: Inputs, proofs: Proofs, space: Space,
        clock: Callable[[], Instant],
    ) -> None:  # fmt: skip
        self._record = record
        self._builder = builder
        self._disks = disks
        self._inputs = inputs
        self._proofs = proofs
        self._space = space
        self._clock = clock

    async def ensure(self, actor: str, image: Image, tell: Tell = lambda _: None, *, commit: str = "") -> Disk:
        """Return the disk of *image*, by the lock of *commit* ("": of its newest source), made where it is not there;
        of an image that was taken from elsewhere, the newest that was taken with it.

        It is recorded and signed. Raises InvalidInput when no disks are made of the app, Failed when there is none
        and it cannot be made.
        """
        state = self._record.state
        built = state.images.get(image.digest)
        source = _source(built.sources if built else (), commit)
        if source is None or built is None:
            return await to_thread.run_sync(self._newest, image)
        if not built.locks:
            raise Failed(f"the record has no lock of image {short(image.digest)}", hint="build its commit again")
        async with self._space.used():
            lock = await to_thread.run_sync(self._lock, built.locks[-1], image)
            return (await self.build(actor, image, source, lock, tell)).disk

    async def build(
        self, actor: str, image: Image, source: Source, lock: str, tell: Tell, *, offline: bool = False,
        secrets: Mapping[str, bytes] | None = None,
    ) -> DiskResult:  # fmt: skip
        """Make the disk of *image*, which was built of *source* with *lock* (its text), record it and sign it; raises
        as ``ensure``. The caller uses the store (``Space.used``)."""
        if not self._record.ledger.room():
            raise Failed("the disk is nearly full; nothing was made", hint="make room: stelae gc")
        asked = BuildRequest(
            repository=source.repository, commit=source.commit, path=source.path, offline=offline,
            secrets=secrets or {},
        )  # fmt: skip
        made = await to_thread.run_sync(partial(self._builder.build, asked, image, lock, tell))
        await self._built(actor, image, source, made)
        return made

    async def _built(self, actor: str, image: Image, source: Source, made: DiskResult) -> None:
        finished = self._clock()
        known = self._record.state.disks.get(made.disk.digest)
        wanting = self._proofs.wanting(made.disk.digest, source)
        recent = known is not None and source.commit in known.commits and finished - known.last_built_at < NO_NEWS
        if recent and not wanting:
            return
        lock = digest_of(made.lock.encode())
        event = ev.DiskBuilt(disk=made.disk, commit=source.commit, lock=lock, format=DISK_FORMAT)
        (recorded,) = await self._record.append([event], actor=actor, urgent=False)
        if wanting:
            await self._proofs.attest_disk(
                DiskBuild(
                    disk=made.disk, image=image, source=source, inputs=made.inputs, packages=made.packages,
                    boot=made.boot, lock=lock, format=DISK_FORMAT, architecture=architecture(), index=recorded.index,
                    started=finished - int(made.seconds * SECOND), finished=finished,
                )
            )  # fmt: skip

    def _lock(self, digest: str, image: Image) -> str:
        path = self._inputs.find(parse_digest(digest))
        if path is None:
            raise Failed(
                f"the lock that {short(image.digest)} was built with is not in the store of inputs any more",
                hint="build its commit again: stelae build --artifact disk --ref COMMIT",
            )
        return path.read_text()

    def _newest(self, image: Image) -> Disk:
        found = self._disks.of(image.digest)
        if not found:
            raise Failed(
                f"no disk of image {short(image.digest)} is here, and it was not built here",
                hint="take it with the image: stelae pull --artifact disk NAME",
            )
        return found[-1]


def _source(sources: tuple[Source, ...], commit: str) -> Source | None:
    """Return the source that a disk is said to be of: the newest of *commit*, or else the newest that is no working
    tree, or the newest."""
    found = [source for source in sources if source.commit == commit] if commit else list(sources)
    versioned = [source for source in found if source.versioned]
    wanted = versioned or found
    return wanted[-1] if wanted else None
