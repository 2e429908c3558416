"""What a release is made of: an image, and where each instance is a machine the disk of it that is booted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stelae.controller import references
from stelae.controller.admission import Admission
from stelae.controller.record import Record
from stelae.core import disks
from stelae.core import request as asking
from stelae.core.held import boots
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest
from stelae.domain.environment import environment_id
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant


class DiskMaker(Protocol):
    """Makes disks of images."""

    async def ensure(self, actor: str, image: Image) -> Disk:
        """Return the disk of *image*, which is recorded, made now where there was none; raises InvalidInput or
        Failed."""


class Artifacts:
    """Chooses what a release is of. Without *maker* only disks that were made before are found."""

    def __init__(
        self, record: Record, admission: Admission, clock: Callable[[], Instant], maker: DiskMaker | None = None
    ) -> None:
        self._record = record
        self._admission = admission
        self._clock = clock
        self._maker = maker

    async def release_of(self, env: EnvironmentState, ref: str, *, disk: str = "", actor: str = "") -> Release:
        """Return the release of the image *ref* in *env*, of *disk* where one is named. A disk that there is not is
        made for *actor*, where one is named; but never for an environment that takes only what was verified in
        another. Raises InvalidInput."""
        image = references.image(self._record.state, ref).image
        asking.release_of(env, image)  # what is refused anyway needs no disk
        return asking.release_of(env, image, await self._disk(env, image, disk, actor))

    async def _disk(self, env: EnvironmentState, image: Image, named: str, actor: str) -> Digest | None:
        if not boots(env):
            return None
        if named:
            return references.disk(self._record.state, named)
        of = asking.config(env)
        if of.promote_from:
            return await self._verified(env, image.digest)
        if self._maker is not None and actor:
            return (await self._maker.ensure(actor, image)).digest
        return disks.newest(self._record.state, image.digest)

    async def _verified(self, env: EnvironmentState, image: Digest) -> Digest:
        """Return the disk of *image* that was verified where it has to come from: here, or by another controller that
        counts; the newest one where none was, which is then refused with its reason."""
        state, of = self._record.state, asking.config(env)
        found = disks.verified(state, environment_id(of.app, of.promote_from), image, self._clock())
        if found is not None:
            return found
        for digest in disks.of_image(state, image):
            if await self._admission.vouched(env, digest) is not None:
                return digest
        return disks.newest(state, image)
