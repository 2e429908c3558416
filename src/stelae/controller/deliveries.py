"""Images of releases, in the registries that clusters take them from: sent when they are not there yet.

What was sent once may be launched also while its registry does not answer: nodes may have it, and a rollback waits
for no registry. What was sent is marked in the cache; without the marks a registry is only asked again. What was
begun is marked too: a controller that ended before it could record what it sent does so when it finds it there.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import Lock, to_thread

from stelae.controller.record import Record
from stelae.controller.transfers import passing
from stelae.domain import event as ev
from stelae.domain.digest import Digest, short
from stelae.domain.errors import StelaeError
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.images import exchange
from stelae.images.distribution import Repository
from stelae.images.layout import Layout
from stelae.images.registry import Access, Place
from stelae.system.installation import Installation

log = structlog.get_logger(__name__)

ASKED_AGAIN = 60.0
"""Seconds after which a registry is asked again whether it has an image."""

PATIENCE = 3.0
"""Seconds that a registry has to say so of an image that was sent to it before."""


class Deliveries:
    """Sends images of *layout*; ``push`` is what a platform of clusters is given."""

    def __init__(self, record: Record, layout: Layout, installation: Installation) -> None:
        self._record = record
        self._layout = layout
        self._cache = installation.cache
        self._asked: dict[str, float] = {}
        self._alone: defaultdict[str, Lock] = defaultdict(Lock)

    async def push(self, release: Release, choice: PlatformChoice) -> str:
        """Have the image of *release* in the registry of *choice*; return it as ``HOST/PATH@sha256:HEX``.

        Raises Failed when the registry does not let us in, or the image is not in the store as its digest says;
        Unreachable when the registry does not answer, and the image was not sent to it before.
        """
        place = Place(name=choice.repository(release.app), digest=release.image)
        async with self._alone[str(place)]:
            if time.monotonic() - self._asked.get(str(place), -ASKED_AGAIN) >= ASKED_AGAIN:
                await self._deliver(place, release.image, Access(insecure=choice.plain))
                self._asked[str(place)] = time.monotonic()
        return str(place)

    async def _deliver(self, place: Place, image: Digest, access: Access) -> None:
        mark = self._mark(place)
        begun = mark.with_suffix(".begun")
        # With a tag, because many registries clean up what has none. Nothing is started by it.
        tagged = Place(name=place.name, tag=short(image))
        if not await self._is_there(place, image, access, sent=mark.exists()):
            begun.parent.mkdir(parents=True, exist_ok=True)
            begun.touch()
            await to_thread.run_sync(partial(self._send, tagged, image, access))
            log.info("image.delivered", image=image, name=place.name)
        elif not begun.exists():
            return
        await self._record.append([ev.ImagePushed(image=image, name=place.name, tag=tagged.tag)])
        begun.replace(mark)

    async def _is_there(self, place: Place, image: Digest, access: Access, *, sent: bool) -> bool:
        """Ask the registry; one that does not answer has what was *sent* to it before."""
        ask = partial(Repository(place.name, access).has, image)
        if not sent:
            return await to_thread.run_sync(ask)
        with anyio.move_on_after(PATIENCE):
            try:
                return await to_thread.run_sync(ask, abandon_on_cancel=True)
            except StelaeError as error:
                log.warning("image.registry_refuses", name=place.name, problem=str(error))
                return True
        log.warning("image.registry_silent", name=place.name)
        return True

    def _send(self, place: Place, image: Digest, access: Access) -> None:
        with self._layout.in_use(), passing(self._cache) as folder:
            exchange.push(self._layout, image, place, access, folder / "layout", lambda _: None)

    def _mark(self, place: Place) -> Path:
        return self._cache / "delivered" / hashlib.sha256(str(place).encode()).hexdigest()
