"""Use cases on registries: images are sent there and taken from there, with what is signed of them."""

from __future__ import annotations

import base64
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anyio import Lock, to_thread

from stelae.attest.checking import Proof
from stelae.controller.admission import verified
from stelae.controller.background import Background, Tell
from stelae.controller.record import Record
from stelae.controller.space import Space
from stelae.core import trust
from stelae.domain import event as ev
from stelae.domain.digest import Digest, short
from stelae.domain.errors import Failed, InvalidInput, Refused
from stelae.domain.image import Image
from stelae.images import exchange
from stelae.images.exchange import Progress
from stelae.images.layout import Layout, image_of
from stelae.images.registry import Access, Place, parse_place
from stelae.system.installation import Installation

Json = dict[str, Any]

WORK = "transfer-"
"""How the names of folders in the cache begin that an image passes through; garbage collection takes old ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pulled:
    image: Image
    proof: Proof

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys whose signatures were verified, also such as were revoked."""
        found = (*self.proof.evidence, *(item for item, _ in self.proof.revoked))
        return tuple(sorted({item.key for item in found}))


@contextmanager
def passing(cache: Path) -> Iterator[Path]:
    """Give a new folder in *cache* for an image to pass through, which is gone afterwards."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=WORK, dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Transfers:
    """Sends images of *layout* and takes images into it; *resolve* gives the image that a reference means."""

    def __init__(
        self, record: Record, layout: Layout, installation: Installation, space: Space,
        resolve: Callable[[str], Image],
    ) -> None:  # fmt: skip
        self._record = record
        self._layout = layout
        self._installation = installation
        self._space = space
        self._resolve = resolve
        self._background = Background()
        self._alone = Lock()

    async def push(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.push``."""
        image, place = self._resolve(request["ref"]).digest, parse_place(request["name"])
        if place.digest is not None and place.digest != image:
            raise InvalidInput(f"{request['name']} names another image than {short(image)}", hint="give NAME[:TAG]")
        asked = Place(name=place.name, tag=place.tag, digest=None if place.tag else image)

        async def work(tell: Tell) -> Json:
            async with self._space.used():
                sent = await to_thread.run_sync(partial(self._push, image, asked, request, tell))
            event = ev.ImagePushed(image=image, name=place.name, tag=place.tag)
            await self._record.append([event], actor=actor)
            return {
                "image": image, "name": f"{place.name}@{image}", "tag": place.tag, "referrers": sent.referrers,
                "listed": sent.listed,
            }  # fmt: skip

        async for item in self._background.streamed(work):
            yield item

    def _push(self, image: Digest, place: Place, request: Json, tell: Progress) -> exchange.Sent:
        with self._access(request) as access, self._layout.in_use(), passing(self._installation.cache) as folder:
            return exchange.push(self._layout, image, place, access, folder / "layout", tell)

    async def pull(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.pull``. What comes is verified before it is recorded, and recorded before it is told."""
        place = parse_place(request["name"])
        named = f"{place.name}:{place.tag or 'latest'}" if place.digest is None else ""

        async def work(tell: Tell) -> Json:
            if not self._record.ledger.room():
                raise Failed("the disk is nearly full; nothing was fetched", hint="make room: stelae gc")
            async with self._alone, self._space.used():
                pulled = await to_thread.run_sync(partial(self._pull, place, request, tell))
                image = pulled.image
                before = self._record.state.tags.get(named, "") if named else ""
                moved = before if before != image.digest else ""
                keys = pulled.keys
                event = ev.ImageImported(image=image, name=place.name, tag=named.rpartition(":")[2], keys=keys)
                await self._record.append([event], actor=actor)
            return {
                "image": image.digest, "app": image.app, "name": f"{place.name}@{image.digest}", "moved": moved,
                "keys": list(keys), "strangers": pulled.proof.strangers,
            }  # fmt: skip

        async for item in self._background.streamed(work):
            yield item

    def _pull(self, place: Place, request: Json, tell: Progress) -> _Pulled:
        name = WORK + hashlib.sha256(str(place).encode()).hexdigest()[:16]
        folder = self._installation.cache / name  # the same each time: a try that was broken off goes on
        folder.mkdir(parents=True, exist_ok=True)
        with self._access(request) as access, self._layout.in_use():
            layout, digest = exchange.pull(place, access, folder / "layout", self._layout, tell)
            try:
                proof = verified(self._record.state, layout, digest)
                pulled = _Pulled(image=image_of(layout, digest), proof=proof)
                self._refuse(pulled)
                exchange.take(layout, digest, self._layout, f"{pulled.image.app}-{short(digest)}")
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return pulled

    def _refuse(self, pulled: _Pulled) -> None:
        """Raise Failed for what is damaged, Refused for what was revoked."""
        digest, proof = pulled.image.digest, pulled.proof
        if proof.problems:
            raise Failed(
                f"{short(digest)} was not taken: {proof.problems[0]}", details=proof.problems[1:],
                hint="what speaks of the image in the registry is damaged: push it again from where it was built",
            )  # fmt: skip
        trust.admit(self._record.state, digest)
        if proof.revoked and not proof.evidence:
            raise Refused(f"{short(digest)} is signed only by a key that was revoked {proof.revoked[0][1]}")

    @contextmanager
    def _access(self, request: Json) -> Iterator[Access]:
        """Give what one command was given to talk to a registry, in files in memory (the folder is a tmpfs) that are
        gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="registry-", dir=self._installation.run))
        try:
            authfile, certificates = None, None
            if request["authfile"]:
                authfile = folder / "auth.json"
                _write(authfile, request["authfile"])
            if request["certificates"]:
                certificates = folder / "certificates"
                certificates.mkdir()
                for name, text in request["certificates"].items():
                    _write(certificates / name, text)
            yield Access(authfile=authfile, certificates=certificates, insecure=request["insecure"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidInput("a file is not in base64", where="request") from None
    path.touch(mode=0o600)
    path.write_bytes(data)
