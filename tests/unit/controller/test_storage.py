"""Builds and garbage collection side by side: what is needed stays, also when the record does not say so yet."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.build.builder import Builder, BuildRequest, BuildResult
from stelae.build.mirror import Mirror
from stelae.controller.cleaner import UNDEPLOYED, Cleaner
from stelae.controller.deployments import Deployments
from stelae.controller.space import Space
from stelae.controller.storage import NO_NEWS, Storage
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import Image
from stelae.domain.units import HOUR, Duration, Instant
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.system.installation import Installation
from tests.unit.controller.site import TEST, Site, on_site
from tests.unit.core.fixtures import WEB, WORKER
from tests.unit.images.test_layout import put

REQUEST = {"repository": "shop", "commit": "a" * 40, "path": "", "subject": "first", "versioned": True}


class FakeBuilder:
    """Gives the image that it was told to, once ``go`` is set; each build says "working" first."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.go = threading.Event()
        self.go.set()
        self.image: Digest | None = None

    def build(self, request: BuildRequest, progress: Callable[[str], None]) -> BuildResult:
        progress("working")
        assert self.go.wait(10)
        if self.image is None:
            raise InvalidInput("there is no stelae.toml", hint="stelae init")
        image = Image(digest=self.image, app="shop", processes=(WEB, WORKER), layers=(), size=1)
        return BuildResult(image=image, created=False, layers=(), lock="", seconds=0.1)


class Store:
    """A site with an image store; ``later`` is added to the clock."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.later: Duration = 0
        self.layout = Layout.open(folder / "images")
        self.builder = FakeBuilder(self.layout)
        roots = Roots(self.layout, folder / "layers", folder / "mounts")
        self.space = Space()
        self.storage = Storage(site.record, cast(Mirror, None), cast(Builder, self.builder), self.clock, self.space)
        self.installation = Installation(name="sttest", state=folder, run=folder / "run")
        self.cleaner = Cleaner(site.record, self.installation, self.layout, roots, self.space, self.clock)
        self.deployments = Deployments(site.record, site.platform, self.space)

    def clock(self) -> Instant:
        return self.site.clock() + self.later

    def old(self, name: str) -> Digest:
        """An image in the store whose files are two hours old."""
        digest = put(self.layout, f"{name}=1", name)
        self.age()
        return digest

    def age(self) -> None:
        """Make all files two hours old: what the store was asked for an hour ago or less is never removed."""
        then = time.time() - 2 * 3600
        for blob in self.layout.blobs.all():
            os.utime(self.layout.blob_path(blob), (then, then))

    async def build(self, image: Digest | None, **more: Any) -> list[Any]:
        self.builder.image = image
        return [item async for item in self.storage.build("ana", {**REQUEST, **more})]


@pytest.fixture(autouse=True)
def _mounts(tmp_path: Path) -> None:
    for name in ("layers", "mounts"):
        (tmp_path / name).mkdir()


def on_store(folder: Path, body: Callable[[Store], Any]) -> None:
    async def run(site: Site) -> None:
        await body(Store(site, folder))

    on_site(folder, run)


def test_a_build_is_recorded_before_its_digest_is_told(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        image = store.old("v1")
        told = await store.build(image)
        assert told[0] == {"progress": {"text": "working"}}
        assert told[1]["result"]["image"] == image
        assert [event.image.digest for event in store.site.events(ev.ImageBuilt)] == [image]
        await store.build(image)
        assert len(store.site.events(ev.ImageBuilt)) == 1, "the same again is no news"
        await store.build(image, commit="b" * 40)
        assert len(store.site.record.state.images[image].sources) == 2

    on_store(tmp_path, body)


def test_a_build_that_fails_is_recorded_with_its_reason(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(InvalidInput, match=r"no stelae\.toml"):
            await store.build(None)
        assert store.site.events(ev.BuildFailed)[0].reason == "there is no stelae.toml"

    on_store(tmp_path, body)


def test_without_room_nothing_is_built_and_that_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(store: Store) -> None:
        image = store.old("v1")
        monkeypatch.setattr(type(store.site.ledger), "room", lambda _: False)
        with pytest.raises(Failed, match="nothing was built"):
            await store.build(image)
        assert "nearly full" in store.site.events(ev.BuildFailed)[0].reason
        await store.site.apply()
        with pytest.raises(Failed, match="nothing was changed"):
            await store.site.deploy(await store.site.image("v1"))

    on_store(tmp_path, body)


def test_a_build_whose_client_left_is_recorded(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        store.builder.image = store.old("v1")
        store.builder.go.clear()
        stream = store.storage.build("ana", REQUEST)
        assert await anext(stream) == {"progress": {"text": "working"}}
        await cast(Any, stream).aclose()
        store.builder.go.set()
        await store.site.until(lambda: bool(store.site.events(ev.ImageBuilt)))

    on_store(tmp_path, body)


def test_gc_keeps_what_was_built_lately_and_what_can_be_returned_to(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        await store.site.apply()
        images = [store.old(name) for name in ("stable", "left", "never", "unknown")]
        for image in images[:3]:
            await store.build(image)
        await store.site.stable(images[1])
        await store.site.stable(images[0])
        dry = await store.cleaner.gc("ana", True)
        assert {item["name"] for item in dry["removed"] if item["what"] == "image"} == {images[3]}
        assert all(store.layout.blob_path(image).exists() for image in images), "a dry run removes nothing"
        store.later = UNDEPLOYED + HOUR
        store.age()
        done = await store.cleaner.gc("ana", False)
        assert {item["name"] for item in done["removed"] if item["what"] == "image"} == {images[2], images[3]}
        assert done["bytes"] == sum(item["bytes"] for item in done["removed"])
        store.later = 100 * UNDEPLOYED
        store.age()
        await store.cleaner.gc("ana", False)
        assert store.layout.blob_path(images[0]).exists(), "it is what runs"
        assert store.layout.blob_path(images[1]).exists(), "a rollback goes there"

    on_store(tmp_path, body)


def test_an_image_that_was_built_again_is_young_again(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        image = store.old("v1")
        await store.build(image)
        store.later = UNDEPLOYED - HOUR
        store.site.time += store.later + NO_NEWS
        store.later = 0
        await store.build(image)
        store.later = 2 * HOUR
        store.age()
        await store.cleaner.gc("ana", False)
        assert store.layout.blob_path(image).exists()
        assert store.site.record.state.images[image].built_at < store.site.record.state.images[image].last_built_at

    on_store(tmp_path, body)


@pytest.mark.parametrize("what", ["build", "deploy"])
def test_gc_waits_for_what_is_under_way_and_keeps_it(what: str, tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        await store.site.apply()
        image = store.old("v1")
        await store.build(image)
        store.later = 100 * UNDEPLOYED
        store.site.time += store.later  # so that what is recorded now is young
        store.later = 0
        store.builder.go.clear()
        store.site.platform.slow = asyncio.Event()
        request = {
            "environment": TEST, "image": image, "release": "", "strategy": "", "key": "", "supersede": False,
            "reason": "",
        }  # fmt: skip
        under_way = asyncio.create_task(
            store.build(image) if what == "build" else store.deployments.deploy("ana", request)
        )
        await asyncio.sleep(0.05)
        cleaning = asyncio.create_task(store.cleaner.gc("ana", False))
        await asyncio.sleep(0.05)
        assert not cleaning.done()
        store.builder.go.set()
        store.site.platform.slow.set()
        await under_way
        await cleaning
        assert store.layout.blob_path(image).exists()

    on_store(tmp_path, body)


def test_users_share_and_a_cleaner_is_alone() -> None:
    async def body() -> None:
        space, told = Space(), []

        async def use(name: str) -> None:
            async with space.used():
                told.append(f"{name} in")
                await asyncio.sleep(0.01)
                told.append(f"{name} out")

        async def clean() -> None:
            async with space.cleaned():
                told.append("clean")
                await asyncio.sleep(0.01)
                told.append("cleaned")

        await asyncio.gather(use("a"), use("b"), clean(), clean())
        cleaning = asyncio.create_task(clean())
        await asyncio.sleep(0)
        await asyncio.gather(use("c"), cleaning)
        assert told == [
            "a in", "b in", "a out", "b out", "clean", "cleaned", "clean", "cleaned",
            "clean", "cleaned", "c in", "c out",
        ]  # fmt: skip

    asyncio.run(body())
