"""Builds and garbage collection side by side: what is needed stays, also when the record does not say so yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.controller.cleaner import UNDEPLOYED
from stelae.controller.space import Space
from stelae.controller.storage import NO_NEWS
from stelae.domain import event as ev
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import HOUR
from tests.unit.controller.site import TEST
from tests.unit.controller.store import REQUEST, Store, on_store


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
