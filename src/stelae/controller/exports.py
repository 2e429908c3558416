"""The use cases that hand over: an image or a disk, where it was sent, and where it comes from, for tools that adopt
what was made here without anything else of Stelae. All that is told was verified just now."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from stelae.attest.checking import Proof
from stelae.controller import references
from stelae.controller.admission import Admission
from stelae.controller.inside import Inside, built_from
from stelae.controller.record import Record
from stelae.core import trust
from stelae.domain import event as ev
from stelae.domain.digest import Digest, short
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.trust import Requirement
from stelae.domain.units import KIB
from stelae.images.disk_manifest import Form
from stelae.images.disks import Disks, listed
from stelae.images.layout import Layout, descriptors
from stelae.ledger.history.about import named
from stelae.ledger.history.index import History

Json = dict[str, Any]

_PIECE = 256 * KIB
"""Bytes of a disk that are sent at once."""

_HEX = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a reference means: an image, the release of it if one was named, and the disk if there is one."""

    image: Image
    release: Release | None
    disk: Digest | None


class Exports:
    """Hands over what *layout* and *disks* have; *history* says where it was sent."""

    def __init__(
        self, record: Record, layout: Layout, disks: Disks, history: History, inside: Inside, admission: Admission
    ) -> None:  # fmt: skip
        self._record = record
        self._layout = layout
        self._disks = disks
        self._history = history
        self._inside = inside
        self._admission = admission

    async def export(self, ref: str) -> Json:
        """See ``Service.export``."""
        asked = await to_thread.run_sync(self._asked, ref)
        digest = asked.image.digest
        proof = await self._proven(digest)
        found = {
            "app": asked.image.app,
            "environment": ref if "/" in ref else "",
            "release": asked.release.id if asked.release else "",
            "image": digest,
            "size": await to_thread.run_sync(self._whole, digest),
            "places": await to_thread.run_sync(self._places, digest),
            **_statements(proof),
            "sbom": _statement(proof, Requirement.SBOM),
            "built": built_from(proof.of(Requirement.PROVENANCE)),
        }
        return {**found, "disk": await self._disk(asked.disk, digest) if asked.disk is not None else None}

    async def disk(self, digest: str) -> AsyncIterator[Json]:
        """See ``Service.disk``. Each piece is read when the one before is on its way."""
        name = references.disk(self._record.state, digest)
        form = await to_thread.run_sync(self._disks.form, name)
        await self._proven(name)
        await to_thread.run_sync(self._layout.verify_blob, form.compressed.digest)
        with closing(self._pieces(form)) as pieces:
            while data := await to_thread.run_sync(lambda: next(pieces, b"")):
                yield {"progress": {"data": base64.b64encode(data).decode()}}
        yield {"result": {
            "disk": name, "compressed": form.compressed.digest, "bytes": form.compressed.size,
            "raw": form.raw.digest, "size": form.raw.size,
        }}  # fmt: skip

    def _pieces(self, form: Form) -> Generator[bytes, None, None]:
        """Yield the blob of a disk, which no garbage collection takes meanwhile."""
        with self._layout.in_use(), self._layout.blob_path(form.compressed.digest).open("rb") as file:
            while data := file.read(_PIECE):
                yield data

    def _asked(self, ref: str) -> _Asked:
        """Return what *ref* means: of a release its own disk; of what has none, the newest that was made of it."""
        wanted = ref if ref.startswith("sha256:") else f"sha256:{ref}"
        if _HEX.fullmatch(ref) and any(name.startswith(wanted) for name in self._record.state.disks):
            name = references.disk(self._record.state, ref)
            image = references.image(self._record.state, self._record.state.disks[name].disk.image).image
            return _Asked(image=image, release=None, disk=name)
        image, release = self._inside.resolve(ref)
        disk = release.disk if release is not None else None
        return _Asked(image=image, release=release, disk=disk or self._newest(image.digest))

    def _newest(self, image: Digest) -> Digest | None:
        return next(reversed(listed(self._layout, image)), None)

    async def _proven(self, digest: Digest) -> Proof:
        """Return what is proven of an image or a disk. Raises Refused for what was revoked, Failed for what has no
        signature or no provenance by a key that counts, or is damaged."""
        trust.admit(self._record.state, digest)
        proof = await self._admission.proof(digest)
        for need in (Requirement.SIGNATURE, Requirement.PROVENANCE):
            if why := proof.lacks(need):
                raise Failed(
                    f"{short(digest)} {why}; only what was verified is handed over",
                    hint="stelae build, of its commit, signs it; stelae key import lets the key of another count",
                )  # fmt: skip
        return proof

    def _whole(self, image: Digest) -> int:
        """Return the size of an image, all of whose blobs are what their digests say; raises Failed."""
        with self._layout.in_use():
            for item in descriptors(self._layout.manifest(image)):
                self._layout.verify_blob(item.digest)
            return self._layout.size_of(image)

    def _places(self, digest: Digest) -> list[Json]:
        """Return where an image or a disk was sent, by the record: each place once, the newest first."""
        found: dict[str, Json] = {}
        for index in reversed(self._history.events([named("m", digest)])):
            (item,) = self._record.ledger.read(index, index + 1)
            if isinstance(item.event, ev.ImagePushed):
                place = {"name": f"{item.event.name}@{digest}", "tag": item.event.tag, "at": item.at}
                found.setdefault(item.event.name, place)
        return list(found.values())

    async def _disk(self, name: Digest, image: Digest) -> Json:
        form = await to_thread.run_sync(self._sound, name)
        if form.image.digest != image:
            raise InvalidInput(f"disk {short(name)} is of another image than {short(image)}")
        proof = await self._proven(name)
        return {
            "digest": name, "raw": form.raw.digest, "size": form.raw.size,
            "compressed": form.compressed.digest, "compressed_size": form.compressed.size,
            "root_hash": form.root_hash, "uki": form.uki, "kernel": form.release,
            "architecture": form.architecture, "format": form.format,
            "places": await to_thread.run_sync(self._places, name),
            **_statements(proof),
        }  # fmt: skip

    def _sound(self, name: Digest) -> Form:
        with self._layout.in_use():
            form = self._disks.form(name)
            self._layout.verify_blob(form.compressed.digest)
        return form


def _statements(proof: Proof) -> Json:
    return {
        "signature": _statement(proof, Requirement.SIGNATURE), "provenance": _statement(proof, Requirement.PROVENANCE)
    }  # fmt: skip


def _statement(proof: Proof, need: Requirement) -> Json | None:
    found = proof.of(need)
    return {"digest": found.manifest, "key": found.key} if found is not None else None
