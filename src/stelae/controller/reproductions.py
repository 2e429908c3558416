"""Use cases that build again: an image of the record, to see that it comes out as it did, or a commit twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from anyio import to_thread

from stelae.build.config import FORMAT
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.inputs import Inputs
from stelae.build.reproduce import DiskReport, Report, Reproducer
from stelae.build.request import BuildRequest
from stelae.controller import references
from stelae.controller.background import Background, Tell
from stelae.controller.record import Record
from stelae.controller.space import Space
from stelae.controller.storage import DISK, secrets_of
from stelae.domain import event as ev
from stelae.domain.digest import Digest, parse_digest, short
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import Image
from stelae.domain.units import Instant
from stelae.images.compare import PathChange

Json = dict[str, Any]

PATHS = 20
"""How many paths of a layer are told one by one."""

_BACK = 500


class Reproductions:
    """Builds again what the record names; *find* gives the image that a reference means."""

    def __init__(
        self, record: Record, reproducer: Reproducer, inputs: Inputs, space: Space, find: Callable[[str], Image]
    ) -> None:
        self._record = record
        self._reproducer = reproducer
        self._inputs = inputs
        self._space = space
        self._find = find
        self._background = Background()

    async def reproduce(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.reproduce``."""
        state = self._record.state
        disk = references.as_disk(state, request["ref"])
        image = state.disks[disk].disk.image if disk is not None else self._find(request["ref"]).digest

        async def work(tell: Tell) -> Json:
            made = await to_thread.run_sync(self._made, disk) if disk is not None else None
            ref = made.commit if made is not None else request["ref"]
            built = await to_thread.run_sync(self._built, image, ref)
            asked = BuildRequest(
                repository=built.source.repository, commit=built.source.commit, path=built.source.path,
                offline=request["offline"], lock=self._lock(built, made), secrets=secrets_of(request),
            )  # fmt: skip
            async with self._space.used():
                again = partial(self._reproducer.reproduce, image, asked, tell, disk=disk)
                report = await to_thread.run_sync(again)
            return {**_plain(report), "commit": asked.commit, "repository": asked.repository}

        async for item in self._background.streamed(work):
            yield item

    async def check(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.check``."""
        asked = BuildRequest(
            repository=request["repository"], commit=request["commit"], path=request["path"],
            offline=request["offline"], secrets=secrets_of(request),
        )  # fmt: skip

        async def work(tell: Tell) -> Json:
            async with self._space.used():
                twice = partial(self._reproducer.check, asked, tell, disk=request.get("artifact") == DISK)
                report = await to_thread.run_sync(twice)
            return {**_plain(report), "commit": asked.commit, "repository": asked.repository}

        async for item in self._background.streamed(work):
            yield item

    def _built(self, image: str, ref: str) -> ev.ImageBuilt:
        """Return the newest event that says how *image* was built: of the commit *ref*, when it is one, and rather
        of a commit of the repository's than of a working tree."""
        other: ev.ImageBuilt | None = None
        wanted = self._wanted(image, ref)
        if parse_digest(image) not in self._record.state.images:
            raise Failed(f"the record does not say how {image} was built")
        for event in self._back(self._record.state.images[parse_digest(image)].last_built_at):
            if isinstance(event, ev.ImageBuilt) and event.image.digest == image:
                if event.source.commit in wanted:
                    return event
                other = other or event
        if other is None:
            raise Failed(f"the record does not say how {image} was built")
        return other

    def _made(self, disk: Digest) -> ev.DiskBuilt:
        """Return the newest event that says how *disk* was made."""
        for event in self._back(self._record.state.disks[disk].last_built_at):
            if isinstance(event, ev.DiskBuilt) and event.disk.digest == disk:
                return event
        raise Failed(
            f"the record does not say how disk {short(disk)} was made",
            hint="it was taken from elsewhere: reproduce it where it was made",
        )

    def _back(self, at: Instant) -> Iterator[ev.Event]:
        """Yield the events of the record up to *at*, newest first."""
        ledger = self._record.ledger
        end = ledger.index_at(at)
        while end > 0:
            start = max(end - _BACK, 0)
            yield from (recorded.event for recorded in reversed(list(ledger.read(start, end))))
            end = start

    def _wanted(self, image: str, ref: str) -> set[str]:
        """Return the commits of *image* that are meant by *ref*, or else those that are no working tree's, or all."""
        sources = self._record.state.images[parse_digest(image)].sources
        named = {source.commit for source in sources if source.commit.startswith(ref)}
        versioned = {source.commit for source in sources if source.versioned}
        return named or versioned or {source.commit for source in sources}

    def _lock(self, built: ev.ImageBuilt, made: ev.DiskBuilt | None) -> str:
        """Return the lock that the image was built with, or the disk, which has the image's too."""
        for event, known in ((built, FORMAT), (made, DISK_FORMAT)):
            if event is not None and event.format != known:
                raise InvalidInput(
                    f"it was built by format {event.format}, and this Stelae builds format {known}",
                    hint="the version of Stelae that built it can build it again",
                )
        lock = made.lock if made is not None else built.lock
        path = self._inputs.find(parse_digest(lock)) if lock else None
        if path is None:
            raise Failed(
                f"the lock that {short(built.image.digest)} was built with is not in the store of inputs any more"
            )
        return path.read_text()


def _plain(report: Report) -> Json:
    return {
        "image": report.wanted, "made": report.made, "equal": report.equal, "known": report.known,
        "config": list(report.config), "seconds": report.seconds, "disk": _disk(report.disk),
        "layers": [
            {
                "name": layer.name, "old": layer.old, "new": layer.new, "count": len(layer.paths),
                "paths": [_path(item) for item in layer.paths[:PATHS]],
            }
            for layer in report.layers
        ],
    }  # fmt: skip


def _disk(report: DiskReport | None) -> Json | None:
    if report is None:
        return None
    return {"disk": report.wanted, "made": report.made, "known": report.known, "parts": list(report.parts)}


def _path(item: PathChange) -> Json:
    return {"path": item.path, "how": list(item.how)}
