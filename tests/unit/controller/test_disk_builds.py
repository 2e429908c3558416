"""Disks: made of an image of the record, recorded and signed, found when they are there; nobody else waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.attest.contents import Inspector
from stelae.attest.keys import Keys
from stelae.build.builder import Builder
from stelae.build.config import FORMAT
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.disk_builder import DiskBuilder
from stelae.build.inputs import Inputs
from stelae.build.mirror import Mirror
from stelae.build.request import BuildRequest, BuildResult, DiskResult
from stelae.controller.admission import Admission
from stelae.controller.disk_builds import NO_NEWS, DiskBuilds
from stelae.controller.inside import Inside
from stelae.controller.proofs import Proofs
from stelae.controller.storage import Storage
from stelae.domain import event as ev
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import Image, Source
from stelae.domain.trust import Requirement
from stelae.images.disks import Disks
from stelae.images.layout import Layout, image_of
from tests.unit.attest.samples import packaged
from tests.unit.attest.test_disks import INPUTS, KERNEL
from tests.unit.controller.site import Site, on_site
from tests.unit.images.disk_parts import RAW, a_disk, a_form

FIRST, SECOND = "a" * 40, "b" * 40
REQUEST = {"repository": "shop", "commit": FIRST, "path": "", "subject": "first", "versioned": True}


class Making:
    """Makes a disk of a few KiB, once ``go`` is set, or fails with ``problem``."""

    def __init__(self, disks: Disks) -> None:
        self.disks = disks
        self.go = threading.Event()
        self.go.set()
        self.problem: Exception | None = None
        self.asked: list[tuple[BuildRequest, str]] = []
        self.raw = RAW

    def build(
        self, request: BuildRequest, image: Image, lock: str, progress: Callable[[str], None]
    ) -> DiskResult:  # fmt: skip
        self.asked.append((request, lock))
        progress("disk: writing the root")
        assert self.go.wait(10)
        if self.problem is not None:
            raise self.problem
        known = self.disks.of(image.digest)
        disk = self.disks.add(a_form(self.disks.layout, image.digest, self.raw))
        (boot, _) = self.disks.layout.add_layer(_boot(), mtime=0)
        return DiskResult(
            disk=disk, created=disk not in known, lock=f"{lock} and of the disk", locked=True, inputs=INPUTS,
            packages=("linux-image-6.1",), boot=(boot,), seconds=2.5,
        )  # fmt: skip


class Built:
    """A builder of images that has built ``image``."""

    def __init__(self, image: Image) -> None:
        self.image = image

    def build(self, request: BuildRequest, progress: Callable[[str], None]) -> BuildResult:
        return BuildResult(image=self.image, created=True, layers=(), lock="lock", seconds=0.1)


class Place:
    """A site with a store of images and disks."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.layout = Layout.open(folder / "images")
        self.disks = Disks(self.layout, folder / "disks")
        self.image = image_of(self.layout, packaged(self.layout, "shop"))
        self.making = Making(self.disks)
        self.inputs = Inputs(folder / "inputs")
        inspector = Inspector(self.layout, folder / "contents")
        self.proofs = Proofs(site.record, self.layout, inspector, Keys(folder / "keys"))
        self.use = DiskBuilds(
            site.record, cast(DiskBuilder, self.making), self.disks, self.inputs, self.proofs, site.space, site.clock
        )
        self.storage = Storage(
            site.record, cast(Mirror, None), cast(Builder, Built(self.image)), site.clock, site.space, self.proofs,
            self.use,
        )  # fmt: skip
        self.admission = Admission(site.record, self.layout)
        self.inside = Inside(site.record, self.layout, inspector, self.admission)

    async def built(self, commit: str = FIRST, *, versioned: bool = True, lock: str = "lock") -> None:
        source = Source(repository="shop", commit=commit, path="", versioned=versioned)
        kept = self.inputs.blobs.add(lock.encode())
        event = ev.ImageBuilt(image=self.image, source=source, lock=kept, format=FORMAT)
        await self.site.record.append([event], actor="ana")

    async def told(self, **more: Any) -> Any:
        return [item async for item in self.storage.build("ana", {**REQUEST, **more})][-1]["result"]


def _boot() -> Any:
    from stelae.images.tree import Tree, file

    tree = Tree()
    tree.add(b"var/lib/dpkg/status", file(KERNEL))
    return tree


def on_place(folder: Path, body: Callable[[Place], Any]) -> None:
    async def run(site: Site) -> None:
        await body(Place(site, folder))

    on_site(folder, run)


def test_a_build_that_asks_for_a_disk_records_the_image_then_the_disk_and_signs_both(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        told = await place.told(artifact="disk")
        (disk,) = place.disks.of(place.image.digest)
        assert (told["image"], told["disk"]["disk"]) == (place.image.digest, disk.digest)
        assert (told["disk"]["raw"], told["disk"]["size"], told["disk"]["created"]) == (disk.raw, disk.size, True)
        kinds = [item.event.kind for item in place.site.ledger.read(0, 100)]
        assert kinds.index("image.built") < kinds.index("disk.built")
        (event,) = place.site.events(ev.DiskBuilt)
        assert (event.disk, event.commit, event.format) == (disk, FIRST, DISK_FORMAT)
        assert event.lock == digest_of(b"lock and of the disk")
        proof = await place.admission.proof(disk.digest)
        assert [need for need in Requirement if proof.lacks(need)] == []
        assert [item.image for item in place.site.events(ev.ImageAttested)] == [place.image.digest, disk.digest]

    on_place(tmp_path, body)


def test_a_build_of_an_image_makes_no_disk(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        assert (await place.told())["disk"] is None
        assert place.making.asked == []
        assert place.site.events(ev.DiskBuilt) == []

    on_place(tmp_path, body)


def test_a_disk_that_cannot_be_made_leaves_the_image_and_says_why(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        place.making.problem = InvalidInput("no disks are made of this app", where="stelae.toml: disk", hint="add it")
        with pytest.raises(InvalidInput, match="no disks are made of this app"):
            await place.told(artifact="disk")
        assert [event.image for event in place.site.events(ev.ImageBuilt)] == [place.image]
        assert place.site.events(ev.DiskBuilt) == []
        (failed,) = place.site.events(ev.BuildFailed)
        assert "no disks are made of this app" in failed.reason

    on_place(tmp_path, body)


def test_the_same_disk_again_is_no_news_but_for_another_commit_or_later(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        for commit, later, count in ((FIRST, 0, 1), (FIRST, 0, 1), (SECOND, 0, 2), (FIRST, NO_NEWS, 3)):
            place.site.time += later
            await place.told(artifact="disk", commit=commit)
            assert len(place.site.events(ev.DiskBuilt)) == count
        signed = [item for item in place.site.events(ev.ImageAttested) if item.image != place.image.digest]
        assert [item.commit for item in signed] == [FIRST, SECOND]

    on_place(tmp_path, body)


def test_a_deployment_finds_or_makes_the_disk_by_the_newest_commit_and_its_lock(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.built(FIRST, lock="old lock")
        await place.built(SECOND, lock="new lock")
        await place.built("c" * 40, versioned=False, lock="new lock")
        disk = await place.use.ensure("ben", place.image)
        assert place.disks.of(place.image.digest) == (disk,)
        request, lock = place.making.asked[0]
        assert (request.commit, request.repository, lock) == (SECOND, "shop", "new lock")
        (event,) = place.site.events(ev.DiskBuilt)
        assert event.commit == SECOND
        assert await place.use.ensure("ben", place.image, commit=FIRST) == disk
        assert place.making.asked[1][0].commit == FIRST

    on_place(tmp_path, body)


def test_of_an_image_from_elsewhere_the_disk_that_came_with_it_is_taken(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.site.record.append([ev.ImageImported(image=place.image, name="r.example.com/shop")], actor="ana")
        with pytest.raises(Failed, match=r"no disk of image .* is here") as caught:
            await place.use.ensure("ben", place.image)
        assert caught.value.hint == "take it with the image: stelae pull --artifact disk NAME"
        a_disk(place.disks, place.image.digest, b"first")
        second = a_disk(place.disks, place.image.digest, b"second")
        assert await place.use.ensure("ben", place.image) == second
        assert place.making.asked == []

    on_place(tmp_path, body)


def test_a_lock_that_is_not_kept_any_more_is_said(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.built()
        for blob in (tmp_path / "inputs").iterdir():
            blob.unlink()
        with pytest.raises(Failed, match="is not in the store of inputs any more") as caught:
            await place.use.ensure("ben", place.image)
        assert "stelae build --artifact disk --ref COMMIT" in caught.value.hint

    on_place(tmp_path, body)


def test_nobody_waits_while_a_disk_is_made(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        place.making.go.clear()
        running = asyncio.create_task(place.told(artifact="disk"))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if place.making.asked:
                break
        assert place.making.asked, "it is under way"
        assert not running.done()
        await place.site.record.append([ev.ControllerStarted(version="1")], actor="controller")
        place.making.go.set()
        assert (await running)["disk"]["created"]

    on_place(tmp_path, body)


def test_a_disk_is_shown_with_what_is_proven_of_it_and_what_is_inside(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.told(artifact="disk")
        (disk,) = place.disks.of(place.image.digest)
        shown = await place.site.queries.show(disk.digest[7:19])
        assert (shown["kind"], shown["disk"], shown["image"]) == ("disk", disk.digest, place.image.digest)
        assert (shown["root_hash"], shown["commits"], shown["made_by"]) == (disk.root_hash, [FIRST], "ana")
        assert (await place.site.queries.show(place.image.digest))["disks"] == [disk.digest]
        proof = await place.inside.proof(disk.digest)
        assert (proof["image"], proof["trusted"]) == (disk.digest, True)
        assert all(proof[need.value]["ok"] for need in Requirement)
        assert proof["built"]["commit"] == FIRST
        inside = {item["name"]: item["kind"] for item in proof["packages"]}
        assert inside["linux-image-6.1"] == "deb"
        assert inside["flask-login"] == "pypi"
        document = await place.inside.document(disk.digest, "provenance")
        assert document["document"]["buildDefinition"]["buildType"] == "https://stelae.dev/build/disk/v1"

    on_place(tmp_path, body)
