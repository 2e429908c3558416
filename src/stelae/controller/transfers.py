"""Use cases on registries: images are sent there and taken from there, with what is signed of them."""

from __future__ import annotations

import base64
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
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
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, short
from stelae.domain.errors import Failed, InvalidInput, Refused
from stelae.domain.image import Image
from stelae.images import exchange
from stelae.images.disk_exchange import pull_disks, push_disk, take_disk
from stelae.images.disk_manifest import Form
from stelae.images.disks import Disks, listed
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
    disks: Mapping[Disk, Proof]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys whose signatures were verified, also such as were revoked."""
        return _keys(self.proof)


def _keys(proof: Proof) -> tuple[str, ...]:
    found = (*proof.evidence, *(item for item, _ in proof.revoked))
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
        self._disks = Disks(layout, installation.cache / "disks")
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
                sent, disks = await to_thread.run_sync(partial(self._push, image, asked, request, tell))
            events = [ev.ImagePushed(image=image, name=place.name, tag=place.tag)]
            events += [ev.ImagePushed(image=disk, name=place.name) for disk in disks]
            await self._record.append(events, actor=actor)
            return {
                "image": image, "name": f"{place.name}@{image}", "tag": place.tag, "referrers": sent.referrers,
                "listed": sent.listed, "disks": list(disks),
            }  # fmt: skip

        async for item in self._background.streamed(work):
            yield item

    def _push(
        self, image: Digest, place: Place, request: Json, tell: Progress
    ) -> tuple[exchange.Sent, tuple[Digest, ...]]:  # fmt: skip
        """Send the image, then its disks where they are asked for; return how, and which. Raises Refused."""
        disks = listed(self._layout, image) if request["artifact"] == "disk" else ()
        if request["artifact"] == "disk" and not disks:
            raise InvalidInput(
                f"no disk was made of image {short(image)}", hint="make one: stelae build --artifact disk"
            )
        for digest in (image, *disks):
            trust.admit(self._record.state, digest)
        with self._access(request) as access, self._layout.in_use(), passing(self._installation.cache) as folder:
            sent = exchange.push(self._layout, image, place, access, folder / "layout", tell)
            for disk in disks:
                push_disk(self._disks, disk, place, access, folder / short(disk), tell)
        return sent, disks

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
                events: list[ev.Event] = [
                    ev.ImageImported(image=image, name=place.name, tag=named.rpartition(":")[2], keys=keys),
                    *(
                        ev.DiskImported(disk=disk, name=place.name, keys=_keys(proof))
                        for disk, proof in pulled.disks.items()
                    ),
                ]
                await self._record.append(events, actor=actor)
            return {
                "image": image.digest, "app": image.app, "name": f"{place.name}@{image.digest}", "moved": moved,
                "keys": list(keys), "strangers": pulled.proof.strangers,
                "disks": [disk.digest for disk in pulled.disks],
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
                image = image_of(layout, digest)
                self._refuse(digest, proof)
                others, forms = self._fetch_disks(place.name, digest, request, access, folder / "disks", tell)
                proofs = {form.disk: verified(self._record.state, others, form.disk.digest) for form in forms}
                for disk, found in proofs.items():
                    self._refuse(disk.digest, found)
                exchange.take(layout, digest, self._layout, f"{image.app}-{short(digest)}")
                for form in forms:
                    take_disk(others, form, self._disks)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return _Pulled(image=image, proof=proof, disks=proofs)

    def _fetch_disks(
        self, name: str, image: Digest, request: Json, access: Access, folder: Path, tell: Progress
    ) -> tuple[Layout, tuple[Form, ...]]:  # fmt: skip
        if request["artifact"] != "disk":
            return self._layout, ()
        layout, forms = pull_disks(name, image, access, folder, self._disks, tell)
        if not forms:
            raise InvalidInput(
                f"{name} has no disk of image {short(image)}",
                hint="send it from where it was made: stelae push --artifact disk",
            )
        return layout, forms

    def _refuse(self, digest: Digest, proof: Proof) -> None:
        """Raise Failed for an image or a disk that is damaged, Refused for one that was revoked."""
        if proof.problems:
            raise Failed(
                f"{short(digest)} was not taken: {proof.problems[0]}", details=proof.problems[1:],
                hint="what speaks of it in the registry is damaged: push it again from where it was built",
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
