"""What is handed over is what the store has, verified, with where it was sent by the record."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.attest import provenance, signing, statement
from stelae.attest.contents import Inspector
from stelae.attest.keys import Keys
from stelae.attest.statement import Statement
from stelae.controller.admission import Admission
from stelae.controller.exports import Exports
from stelae.controller.inside import Inside
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed, Refused
from stelae.domain.image import Source
from stelae.images import referrers
from stelae.images.decompress import zstd
from stelae.images.disks import Disks
from stelae.images.layout import image_of
from stelae.system.installation import Installation
from tests.unit.attest.samples import image as sample
from tests.unit.controller.estate import Estate, installed
from tests.unit.controller.site import TEST, Site, on_site, spec
from tests.unit.images.disk_parts import RAW, a_form

COMMIT = "a" * 40
HERE = spec(test="processes = { web = 1 }")


class Handing(Estate):
    """An estate whose images and disks are handed over."""

    def __init__(self, site: Site, own: Installation) -> None:
        super().__init__(site, own)
        self.disks = Disks(self.layout, own.cache / "disks")
        admission = Admission(site.record, self.layout)
        inside = Inside(site.record, self.layout, Inspector(self.layout, own.cache / "contents"), admission)
        self.exports = Exports(site.record, self.layout, self.disks, site.index, inside, admission)

    async def made(self, image: Digest, *, signed: bool = True, kernel: bytes = b"kernel") -> Disk:
        """Make, record and sign a disk of *image*."""
        disk = self.disks.add(a_form(self.layout, image, kernel=kernel))
        await self.site.record.append([ev.DiskBuilt(disk=disk, commit=COMMIT)], actor="ana")
        key = Keys(self.own.keys).signing()
        assert key is not None
        if signed:
            subject = disk.digest, len(self.layout.blobs.read(disk.digest))
            said = [
                Statement(image=disk.digest, type=kind, predicate={})
                for kind in (statement.SIGNATURE, provenance.PREDICATE)
            ]
            referrers.add(self.layout, disk.digest, [signing.bundled(subject, item, key) for item in said])
            event = ev.ImageAttested(image=disk.digest, key=key.public.id, commit=COMMIT)
            await self.site.record.append([event], actor="ana")
        return disk

    async def pushed(self, digest: Digest, name: str, tag: str = "") -> None:
        await self.site.record.append([ev.ImagePushed(image=digest, name=name, tag=tag)], actor="ana")

    async def bytes_of(self, digest: Digest) -> tuple[bytes, dict[str, Any]]:
        """The pieces of a disk together, and what they are said to be."""
        *pieces, end = [item async for item in self.exports.disk(digest)]
        return b"".join(base64.b64decode(item["progress"]["data"]) for item in pieces), end["result"]


def handing(folder: Path, body: Callable[[Handing], Awaitable[None]]) -> None:
    own = installed(folder)
    own.state.mkdir(parents=True)

    async def run(site: Site) -> None:
        await body(Handing(site, own))

    on_site(own.state, run)


def test_an_image_without_a_disk(tmp_path: Path) -> None:
    async def body(made: Handing) -> None:
        image = await made.image("one")
        found = await made.exports.export(image[:20])
        assert (found["image"], found["disk"], found["places"]) == (image, None, [])
        assert (found["app"], found["environment"], found["release"]) == ("shop", "", "")
        assert found["size"] == made.layout.size_of(image)
        assert found["built"]["commit"] == COMMIT
        listed = referrers.digests(made.layout, image)
        assert {found[name]["digest"] for name in ("signature", "provenance", "sbom")} <= set(listed)
        assert {found[name]["key"] for name in ("signature", "provenance", "sbom")} == set(
            made.site.record.state.keys
        )

    handing(tmp_path, body)


def test_where_it_was_sent_each_place_once_and_the_newest_first(tmp_path: Path) -> None:
    async def body(made: Handing) -> None:
        image, other = await made.image("one"), await made.image("two")
        for name, tag in (("a.example/x", "1"), ("b.example/x", ""), ("a.example/x", "2")):
            await made.pushed(image, name, tag)
        await made.pushed(other, "c.example/x")
        places = (await made.exports.export(image))["places"]
        assert [(place["name"], place["tag"]) for place in places] == [
            (f"a.example/x@{image}", "2"), (f"b.example/x@{image}", "")
        ]  # fmt: skip

    handing(tmp_path, body)


def test_what_serves_an_environment_with_the_newest_disk_of_it(tmp_path: Path) -> None:
    async def body(made: Handing) -> None:
        site = made.site
        image = await made.image("one")
        older = await made.made(image)
        disk = await made.made(image, kernel=b"newer")
        await made.pushed(disk.digest, "r.example/disks", "3")
        await site.apply(HERE)
        await site.stable(image)
        found = await made.exports.export(TEST)
        assert (found["environment"], found["release"]) == (TEST, site.env().stable)
        told = found["disk"]
        assert (told["digest"], told["raw"], told["size"]) == (disk.digest, disk.raw, disk.size)
        assert [place["name"] for place in told["places"]] == [f"r.example/disks@{disk.digest}"]
        assert told["provenance"]["key"] == next(iter(site.record.state.keys))
        assert (await made.exports.export(older.digest))["disk"]["digest"] == older.digest

    handing(tmp_path, body)


def test_the_bytes_of_a_disk(tmp_path: Path) -> None:
    async def body(made: Handing) -> None:
        disk = await made.made(await made.image("one"))
        data, said = await made.bytes_of(disk.digest)
        assert zstd.decompress(data) == RAW
        assert (said["raw"], said["size"], said["bytes"]) == (disk.raw, len(RAW), len(data))
        assert said["compressed"] == f"sha256:{hashlib.sha256(data).hexdigest()}"

    handing(tmp_path, body)


def test_what_nobody_signed_is_not_handed_over(tmp_path: Path) -> None:
    async def body(made: Handing) -> None:
        digest = sample(made.layout, "shop", {b"name": b"unsigned"})
        event = ev.ImageBuilt(image=image_of(made.layout, digest), source=Source(commit=COMMIT))
        await made.site.record.append([event], actor="ana")
        with pytest.raises(Failed, match="has no signature"):
            await made.exports.export(digest)
        disk = await made.made(await made.image("one"), signed=False)
        with pytest.raises(Failed, match="has no signature"):
            await made.exports.export(disk.digest)
        with pytest.raises(Failed, match="has no signature"):
            await made.bytes_of(disk.digest)

    handing(tmp_path, body)


def test_what_was_revoked_is_not_handed_over(tmp_path: Path) -> None:
    async def body(made: Handing) -> None:
        image = await made.image("one")
        disk = await made.made(image)
        await made.site.record.append([ev.Revoked(name=disk.digest, reason="CVE-1")], actor="ana")
        with pytest.raises(Refused, match="CVE-1"):
            await made.exports.export(image)
        with pytest.raises(Refused, match="CVE-1"):
            await made.bytes_of(disk.digest)

    handing(tmp_path, body)


@pytest.mark.parametrize("of", ["image", "disk"])
def test_what_is_damaged_is_not_handed_over(tmp_path: Path, of: str) -> None:
    async def body(made: Handing) -> None:
        image = await made.image("one")
        disk = await made.made(image)
        blob = made.disks.form(disk.digest).compressed.digest if of == "disk" else made.layout.layers(image)[0]
        path = made.layout.blob_path(blob)
        path.chmod(0o644)
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(Failed, match=hex_of(blob)[:12]):
            await made.exports.export(image)

    handing(tmp_path, body)
