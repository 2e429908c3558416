"""Use cases of cleaning the disk: garbage collection, when somebody asks for it, and once in a while by itself.

What an environment runs, is moving to or can return to is kept (``core/retention.py``), with all that proves it and
all that it takes to build it again; so is what was built lately. What is to be removed is recorded before, and what
was removed after.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import anyio.from_thread
import structlog
from anyio import to_thread

from stelae.build import garbage
from stelae.controller.record import CONTROLLER, Record
from stelae.controller.space import Space
from stelae.controller.transfers import WORK
from stelae.core.retention import image_roots
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.units import HOUR, MINUTE, SECOND, Duration, Instant
from stelae.images import disk_gc, gc
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.images.rubbish import Found, Rubbish, What, leftovers
from stelae.system import clock
from stelae.system.installation import Installation

Json = dict[str, Any]
log = structlog.get_logger(__name__)

UNDEPLOYED = 7 * 24 * HOUR
"""How long an image that was never deployed is kept after it was built last."""

GRACE: Duration = HOUR
"""What was stored or asked for within this time is kept, also when nothing is known that needs it."""

EVERY: Duration = 24 * HOUR
"""How often the disk is cleaned when nobody asks for it."""

FULL = 0.85
"""The share of the disk from which on it is cleaned every hour."""

LOOK_EVERY: Duration = 10 * MINUTE

IMAGES_AN_ENTRY = 500
"""Digests in one entry of the record: it has a limit."""

LONGEST_PROBLEM = 2_000


class Cleaner:
    """Cleans what *installation* keeps on the disk."""

    def __init__(
        self, record: Record, installation: Installation, layout: Layout, roots: Roots, space: Space,
        now: Callable[[], Instant],
    ) -> None:  # fmt: skip
        self._record = record
        self._installation = installation
        self._layout = layout
        self._roots = roots
        self._space = space
        self._now = now
        self._tried: Instant = 0

    async def gc(self, actor: str, dry_run: bool) -> Json:
        """See ``Service.gc``. What an environment can return to is a root, so a rollback never needs what is gone;
        what is being built or prepared for a deployment is waited for."""
        if dry_run:
            return _answer(await to_thread.run_sync(self._look))
        async with self._space.cleaned():
            self._tried = self._now()
            keep = self._keep()
            return _answer(await to_thread.run_sync(self._clean, actor, keep))

    async def keep_clean(self) -> None:
        """Clean the disk whenever it is time, until cancelled. What goes wrong is recorded, and disturbs nobody."""
        while True:
            await asyncio.sleep(LOOK_EVERY / SECOND)
            await self.clean_if_due()

    async def clean_if_due(self) -> bool:
        """Clean the disk when it was not for a day, or when it is nearly full; say whether it was due."""
        state, now = self._record.state, self._now()
        last = max(self._tried, state.cleaned.at if state.cleaned else 0)
        if now - last < (GRACE if self._fullness() >= FULL else EVERY):
            return False
        try:
            await self.gc(CONTROLLER, False)
        except Exception as error:  # noqa: BLE001 - the outermost frame of what nobody waits for
            log.warning("storage.not_cleaned", problem=str(error))
        return True

    def _fullness(self) -> float:
        try:
            usage = shutil.disk_usage(self._installation.state)
        except OSError:
            return 0.0
        return usage.used / usage.total if usage.total else 0.0

    def _keep(self) -> frozenset[Digest]:
        state, now = self._record.state, self._now()
        keep = {digest for env in state.environments.values() for digest in image_roots(env, now)}
        keep.update(digest for digest, built in state.images.items() if now - built.last_built_at <= UNDEPLOYED)
        keep.update(digest for digest, made in state.disks.items() if now - made.last_built_at <= UNDEPLOYED)
        keep.update(state.disks[digest].disk.image for digest in keep & state.disks.keys())
        return frozenset(digest for digest in keep if self._layout.has(digest))

    def _look(self) -> Found:
        with self._layout.in_use(), gc.alone(self._layout, self._installation.layers):
            return self._find(self._keep())

    def _clean(self, actor: str, keep: frozenset[Digest]) -> Found:
        """Find and remove, alone; record both. Raises Failed when something could not be removed."""
        done: list[Rubbish] = []
        with ExitStack() as stack:
            try:
                self._record.check_mine()  # what another controller has deployed is not known here
                stack.enter_context(self._layout.unused())
                self._roots.unmount_unused(keep)
                stack.enter_context(gc.alone(self._layout, self._installation.layers))
                found = self._find(keep)
                self._say(actor, _intents(found.rubbish))
                for item in found.rubbish:
                    removed(item)
                    done.append(item)
            except (StelaeError, OSError) as error:
                problem = f"{error}"[:LONGEST_PROBLEM]
                with suppress(StelaeError):
                    self._say(actor, [_outcome(done, problem)])
                if isinstance(error, StelaeError):
                    raise
                raise Failed(f"cleaning the disk failed: {error.strerror}", where=str(error.filename)) from error
        before = self._record.state.cleaned
        if done or actor != CONTROLLER or (before and before.problem):
            self._say(actor, [_outcome(done, "")])
        return found

    def _say(self, actor: str, events: Sequence[ev.Event]) -> None:
        """Record *events*, from the thread that cleans; on a full disk too, since this is what makes room."""
        if events:
            anyio.from_thread.run(lambda: self._record.append(events, actor=actor))

    def _find(self, keep: frozenset[Digest]) -> Found:
        own, now = self._installation, clock.now()  # that of the files
        cache = own.cache / "build"
        state = self._record.state
        built = [
            item for name in keep for item in (state.images.get(name), state.disks.get(name)) if item is not None
        ]
        locks = {Digest(lock) for item in built for lock in item.locks}
        stored = gc.find(self._layout, own.layers, self._there(keep | garbage.live_layers(cache, now)), min_age=GRACE)
        left = {*self._layout.blobs.all()} - {
            Digest(item.removed.name) for item in stored.rubbish if item.removed.what is What.BLOB
        }
        # The cache first: it must not name what is gone.
        found = garbage.find_cache(cache, left, now, min_age=GRACE)
        found.add(stored)
        found.add(garbage.find_inputs(own.inputs, locks, now, min_age=GRACE))
        found.add(disk_gc.find_unpacked(own.cache / "disks", keep, now - GRACE))
        for name in ("pack-", WORK):
            found.rubbish += leftovers(own.cache, name, now - GRACE)
        for mirror in sorted(own.sources.glob("*.git")):
            found.rubbish += leftovers(mirror, "incoming-", now - GRACE)
        return found

    def _there(self, digests: frozenset[Digest]) -> frozenset[Digest]:
        return frozenset(digest for digest in digests if self._layout.blob_path(digest).exists())


def removed(item: Rubbish) -> None:
    """Remove one thing."""
    item.remove()


def _counts(rubbish: Sequence[Rubbish]) -> dict[str, int]:
    return dict(Counter(item.removed.what.value for item in rubbish))


def _size(rubbish: Sequence[Rubbish]) -> int:
    return sum(item.removed.size for item in rubbish)


def _intents(rubbish: Sequence[Rubbish]) -> list[ev.Event]:
    if not rubbish:
        return []
    images = tuple(Digest(item.removed.name) for item in rubbish if item.removed.what is What.IMAGE)
    first = ev.StorageCleaning(images=images[:IMAGES_AN_ENTRY], counts=_counts(rubbish), bytes=_size(rubbish))
    rest = range(IMAGES_AN_ENTRY, len(images), IMAGES_AN_ENTRY)
    return [first, *(ev.StorageCleaning(images=images[start : start + IMAGES_AN_ENTRY]) for start in rest)]


def _outcome(done: Sequence[Rubbish], problem: str) -> ev.StorageCleaned:
    return ev.StorageCleaned(counts=_counts(done), bytes=_size(done), problem=problem)


def _answer(found: Found) -> Json:
    things = [item.removed for item in found.rubbish]
    return {
        "removed": [
            {"what": item.what.value, "name": item.name, "bytes": item.size, "reason": item.reason}
            for item in things
        ],
        "bytes": _size(found.rubbish),
        "left": [str(path) for path in found.foreign],
    }  # fmt: skip
