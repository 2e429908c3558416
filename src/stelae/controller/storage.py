"""Use cases on what is stored: sources that arrive, builds, locks, garbage collection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

from stelae.build.builder import Builder, BuildRequest, BuildResult
from stelae.build.config import FORMAT
from stelae.build.mirror import Mirror
from stelae.controller.record import Record
from stelae.core.retention import image_roots
from stelae.domain import event as ev
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.image import Source
from stelae.domain.units import HOUR, Instant
from stelae.images import gc
from stelae.images.layout import Layout
from stelae.images.roots import Roots

Json = dict[str, Any]
T = TypeVar("T")

UNDEPLOYED = 7 * 24 * HOUR
"""How long an image that was never deployed is kept."""


class Storage:
    """Sources, images and their space on the disk."""

    def __init__(
        self, record: Record, mirror: Mirror, builder: Builder, layout: Layout, roots: Roots, layers: Path,
        clock: Callable[[], Instant],
    ) -> None:  # fmt: skip
        self._record = record
        self._mirror = mirror
        self._builder = builder
        self._layout = layout
        self._roots = roots
        self._layers = layers
        self._clock = clock

    async def missing(self, repository: str, objects: list[str]) -> Json:
        """See ``Service.missing``."""
        return {"missing": await to_thread.run_sync(self._mirror.missing, repository, objects)}

    async def receive(self, repository: str, pack: Path) -> Json:
        """See ``Service.receive``."""
        return {"objects": await to_thread.run_sync(self._mirror.receive, repository, pack)}

    async def build(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.build``. The image is recorded before its digest is told."""
        source = Source(
            repository=request["repository"], commit=request["commit"], path=request["path"],
            subject=request["subject"], versioned=request["versioned"],
        )  # fmt: skip
        asked = BuildRequest(repository=source.repository, commit=source.commit, path=source.path)
        try:
            if not self._record.ledger.room():
                raise Failed("the disk is nearly full; nothing was built", hint="make room: stelae gc")
            async for item in _streamed(lambda tell: self._builder.build(asked, tell)):
                if isinstance(item, str):
                    yield {"progress": {"text": item}}
                    continue
                await self._built(actor, source, item)
                yield {"result": _result(item)}
        except StelaeError as error:
            await self._record.append([ev.BuildFailed(source=source, reason=str(error))], actor=actor)
            raise

    async def _built(self, actor: str, source: Source, result: BuildResult) -> None:
        known = self._record.state.images.get(result.image.digest)
        if known is not None and source in known.sources:
            return
        lock = digest_of(result.lock.encode())
        event = ev.ImageBuilt(image=result.image, source=source, lock=lock, format=FORMAT)
        await self._record.append([event], actor=actor, urgent=False)

    async def lock(self, request: Json) -> AsyncIterator[Json]:
        """See ``Service.lock``."""
        asked = BuildRequest(repository=request["repository"], commit=request["commit"], path=request["path"])
        async for item in _streamed(lambda tell: _Locked(self._builder.lock(asked, tell))):
            yield {"progress": {"text": item}} if isinstance(item, str) else {"result": {"lock": item.text}}

    async def gc(self, dry_run: bool) -> Json:
        """See ``Service.gc``. What an environment can return to is a root, so a rollback never needs what is gone."""
        keep = self._keep()

        def collect() -> list[gc.Removed]:
            if not dry_run:
                self._roots.unmount_unused(keep)
            return gc.collect(self._layout, self._layers, keep, dry_run=dry_run)

        removed = await to_thread.run_sync(collect)
        return {
            "removed": [{"what": item.what, "name": item.name, "bytes": item.size} for item in removed],
            "bytes": sum(item.size for item in removed),
        }

    def _keep(self) -> set[Digest]:
        state, now = self._record.state, self._clock()
        keep = {digest for env in state.environments.values() for digest in image_roots(env, now)}
        keep.update(digest for digest, built in state.images.items() if now - built.built_at <= UNDEPLOYED)
        return {digest for digest in keep if self._layout.has(digest)}


@dataclass(frozen=True, slots=True)
class _Locked:
    """A lock's text, told apart from a line of progress."""

    text: str


def _result(built: BuildResult) -> Json:
    return {
        "image": built.image.digest, "app": built.image.app, "created": built.created, "seconds": built.seconds,
        "layers": [
            {"name": item.name, "digest": item.digest, "size": item.size, "cached": item.cached}
            for item in built.layers
        ],
    }  # fmt: skip


async def _streamed(work: Callable[[Callable[[str], None]], T]) -> AsyncIterator[str | T]:
    """Run *work* in a thread and yield the lines that it tells while it runs, then what it returns."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def tell(text: str) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, text)

    def run() -> T:
        try:
            return work(tell)
        finally:
            loop.call_soon_threadsafe(lines.put_nowait, None)

    # The build goes on when its client leaves: half a build is worth less than a whole one.
    running = asyncio.ensure_future(to_thread.run_sync(run))
    while (line := await lines.get()) is not None:
        yield line
    yield await running
