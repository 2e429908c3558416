"""Cleaning the disk: what is needed stays, can be launched and be built again, and the rest goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.build import garbage, stages
from stelae.build.builder import Builder
from stelae.controller import cleaner as cleaning
from stelae.controller.cleaner import EVERY, FULL, GRACE, UNDEPLOYED
from stelae.controller.sentences import sentence
from stelae.core.retention import KEEP_AGE, image_roots
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.units import HOUR, MINUTE
from stelae.images import layout as layouts
from tests.unit.controller.site import on_site
from tests.unit.controller.yard import VERSIONS, Sources, Yard, on_yard

DAY = 24 * HOUR
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("sources"))


def kept(yard: Yard) -> set[Digest]:
    """The images that must stay: what can be returned to, and what was built lately; said once more."""
    state, now = yard.site.record.state, yard.site.time
    found = {digest for env in state.environments.values() for digest in image_roots(env, now)}
    return found | {name for name, built in state.images.items() if now - built.last_built_at <= 7 * DAY}


async def cleaned_of_bases(yard: Yard) -> None:
    """The manifest of a base serves nobody once its layers are there."""
    yard.age(2 * HOUR)
    removed = await yard.gc()
    assert {item["what"] for item in removed} == {"image", "blob"}
    assert not {item["name"] for item in removed} & set(yard.site.record.state.images)


def check_nothing_else(yard: Yard, lately: set[int]) -> None:
    """On the disk are the blobs, inputs and entries of what is kept, and of the versions that were built lately."""
    images = kept(yard)
    blobs = {blob for image in images for blob in yard.layout.blobs_of(image)}
    locks = {lock for image in images for lock in yard.site.record.state.images[image].locks}
    assert {entry.digest for entry in yard.layout.images()} == images
    if lately:
        return
    assert set(yard.layout.blobs.all()) == blobs
    inputs = {"sha256:" + path.name for path in yard.installation.inputs.glob("*") if len(path.name) == 64}
    assert locks <= inputs
    assert len(inputs - locks) <= 3 * len(images), "a base is a manifest, a config and a layer"
    assert bool(inputs) == bool(images)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("build"), st.integers(0, VERSIONS - 1)),
        st.tuples(st.just("deploy"), st.integers(0, VERSIONS - 1)),
        st.tuples(st.just("days"), st.sampled_from([1, 6, 8, 40])),
        st.tuples(st.just("gc"), st.just(0)),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happened_the_needed_stays_and_the_rest_goes(steps: list[tuple[str, int]], sources: Sources) -> None:
    async def body(yard: Yard) -> None:
        await yard.site.apply()
        for what, number in steps:
            if what == "build":
                await yard.build(number)
            elif what == "deploy":
                await yard.site.stable(await yard.build(number))
            elif what == "days":
                yard.age(number * DAY)
            else:
                await yard.gc()
        yard.age(2 * HOUR)
        listed = await yard.gc(dry_run=True)
        assert await yard.gc() == listed, "a dry run says what is removed"
        yard.check_whole(kept(yard), yard.installation.state / "again")
        since = [number for what, number in reversed(steps) if what == "days"]
        check_nothing_else(yard, set() if sum(since[:1]) >= 8 and steps[-1][0] == "days" else {1})
        assert await yard.gc() == []

    with tempfile.TemporaryDirectory() as name:
        on_yard(Path(name), sources, body)


def test_what_was_used_lately_stays_and_then_it_goes(tmp_path: Path, sources: Sources) -> None:
    async def body(yard: Yard) -> None:
        first, second = await yard.build(0), await yard.build(4)
        await yard.site.apply()
        await yard.site.stable(first)
        await cleaned_of_bases(yard)
        before = yard.files()
        yard.age(garbage.LATELY - 4 * HOUR)
        await yard.gc()
        assert yard.files() == before
        yard.age(6 * HOUR)
        removed = {(item["what"], item["reason"]) for item in await yard.gc()}
        assert {what for what, _ in removed} == {"image", "blob", "input", "cache", "leftover"}
        assert ("cache", "its layers are gone") not in removed
        assert kept(yard) == {first}
        assert not yard.layout.blob_path(second).exists()
        yard.check_whole({first}, tmp_path / "again")
        intent, outcome = yard.site.events(ev.StorageCleaning)[-1], yard.site.events(ev.StorageCleaned)[-1]
        assert (intent.images, intent.counts, intent.bytes) == ((second,), outcome.counts, outcome.bytes)
        assert intent.bytes > 0
        assert sentence(intent).startswith("removing ")
        assert "1 image" in sentence(outcome)
        assert yard.site.record.state.cleaned is not None
        assert next(item.actor for item in yard.site.ledger.read() if item.event == outcome) == "ana"

    on_yard(tmp_path / "yard", sources, body)


def test_what_is_not_ours_is_left_and_named(tmp_path: Path, sources: Sources) -> None:
    async def body(yard: Yard) -> None:
        await yard.build(0)
        own = yard.installation
        build = own.cache / "build"
        foreign = [
            own.images / "blobs" / "sha256" / "notes", own.images / "blobs" / "sha256" / "ab",
            own.layers / "x.erofs",
            own.inputs / "README", own.inputs / ("B" * 64), build / "mine", build / "steps" / "files" / "x.json",
            build / "roots" / "old", build / "work" / "keep-me",
        ]  # fmt: skip
        for path in foreign:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("not Stelae's")
        folder, link = own.inputs / ("c" * 64), own.images / "blobs" / "sha256" / ("d" * 64)
        folder.mkdir()
        link.symlink_to("/etc/hostname")
        yard.age(100 * DAY)
        answer = await yard.cleaner.gc("ana", False)
        assert set(answer["left"]) == {str(path) for path in [*foreign, folder, link]}
        assert all(path.exists() for path in [*foreign, folder])
        assert link.is_symlink()
        assert not list(yard.layout.images())

    on_yard(tmp_path / "yard", sources, body)


def test_what_a_crash_left_goes_and_what_a_build_needs_does_not(tmp_path: Path, sources: Sources) -> None:
    async def body(yard: Yard) -> None:
        await yard.build(0)
        await cleaned_of_bases(yard)
        before = yard.files()
        own = yard.installation
        build = own.cache / "build"
        left = [
            build / "work" / "99999999-abc" / "upper" / "file", build / "work" / "1-abc" / "run",
            build / "roots" / ".making-x" / "layer", build / "roots" / f".gone.{'a' * 64}" / "bin",
            own.cache / "pack-xyz", own.inputs / ".adding.1",
            next(own.sources.glob("*.git")) / "incoming-1" / "received.pack",
            own.images / "referrers" / "sha256" / f"{'e' * 64}.json",
            build / "steps" / "files" / f"{'f' * 64}.lock",
        ]  # fmt: skip
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
        damaged = build / "steps" / "files" / f"{'0' * 64}.json"
        damaged.write_text("{")
        yard.age(2 * HOUR)
        removed = {item["what"] for item in await yard.gc()}
        assert removed == {"leftover", "cache"}
        assert not any(path.exists() for path in [*left, damaged])
        assert yard.files() == before

    on_yard(tmp_path / "yard", sources, body)


def test_young_parts_of_a_base_keep_each_other(tmp_path: Path, sources: Sources) -> None:
    """The manifest of a base says that its parts are there: it is looked at alone when a build finds it."""

    async def body(yard: Yard) -> None:
        await yard.build(0)
        yard.age(100 * DAY)
        inputs = yard.builder._inputs
        manifest = next(
            path for path in inputs.iterdir() if len(path.name) == 64 and b'"layers"' in path.read_bytes()
        )
        manifest.touch()
        await yard.gc()
        assert len([path for path in inputs.iterdir() if len(path.name) == 64]) == 3
        yard.age(100 * DAY)
        names = [item["name"] for item in await yard.gc() if item["what"] == "input"]
        assert names[0] == f"sha256:{manifest.name}", "what names others goes first"

    on_yard(tmp_path / "yard", sources, body)


def test_a_lock_that_cannot_be_read_removes_nothing(tmp_path: Path, sources: Sources) -> None:
    async def body(yard: Yard) -> None:
        await yard.site.apply()
        image = await yard.build(0)
        await yard.site.stable(image)
        await yard.build(4)
        (lock,) = yard.site.record.state.images[image].locks
        path = yard.installation.inputs / lock.removeprefix("sha256:")
        path.chmod(0o644)
        path.write_text("# damaged")
        yard.age(100 * DAY)
        before = yard.files()
        with pytest.raises(Failed, match=lock):
            await yard.gc()
        assert yard.files() == before
        assert lock in yard.site.events(ev.StorageCleaned)[-1].problem
        assert "failed" in sentence(yard.site.events(ev.StorageCleaned)[-1])

    on_yard(tmp_path / "yard", sources, body)


@pytest.mark.parametrize("number", [1, 5, 8, 14, 20])
def test_a_kill_in_the_middle_leaves_a_sound_store(number: int, tmp_path: Path, sources: Sources) -> None:
    folder = tmp_path / "yard"

    async def before(yard: Yard) -> None:
        await yard.site.apply()
        await yard.site.stable(await yard.build(0))
        await yard.build(2)
        await yard.build(4)
        await cleaned_of_bases(yard)
        yard.age(UNDEPLOYED + DAY)

    on_yard(folder, sources, before)
    at: list[int] = []

    async def look(site: Any) -> None:
        at.append(max(item.at for item in site.ledger.read()) + UNDEPLOYED + 2 * DAY)

    on_site(folder, look)
    command = [sys.executable, "-m", "tests.unit.controller.yard", str(folder), str(number), str(at[0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr

    async def after(site: Any) -> None:
        site.time = at[0] + MINUTE
        yard = Yard(site, folder)
        yard.bases = sources.bases
        intent = site.events(ev.StorageCleaning)[-1]
        assert len(intent.images) == 2
        assert len(site.events(ev.StorageCleaned)) == 1, "it did not come to that"
        for entry in yard.layout.images():  # what is named is whole, also what goes next
            for blob in yard.layout.blobs_of(entry.digest):
                yard.layout.verify_blob(blob)
        yard.check_whole(kept(yard), tmp_path / "again")
        await yard.gc()
        yard.check_whole(kept(yard), tmp_path / "again")
        check_nothing_else(yard, set())
        assert sum(yard.site.events(ev.StorageCleaned)[-1].counts.values()) == sum(intent.counts.values()) - number

    on_site(folder, after)


def test_gc_waits_for_a_build_of_another_process(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has no part in the controller's own order; what it found in the cache must not go."""

    async def body(yard: Yard) -> None:
        image = await yard.build(0)
        going, go = threading.Event(), threading.Event()
        real = stages.Stages.lock

        def slow(self: Any) -> Any:
            yard.age(100 * DAY)  # the layers were found in the cache, and that is long ago
            going.set()
            assert go.wait(10)
            return real(self)

        monkeypatch.setattr(stages.Stages, "lock", slow)
        own = yard.installation
        other = Builder(yard.layout, yard.mirror, own.cache / "build", own.inputs)
        building = asyncio.create_task(asyncio.to_thread(other.build, yard.requests[1]))
        await asyncio.to_thread(going.wait, 10)
        monkeypatch.setattr(layouts, "PATIENCE", 0.05)
        monkeypatch.setattr(type(yard.layout).unused, "__defaults__", (0.05,))
        with pytest.raises(Conflict, match="another process"):
            await yard.gc()
        monkeypatch.setattr(type(yard.layout).unused, "__defaults__", (10.0,))
        cleaning_up = asyncio.create_task(yard.gc())
        await asyncio.sleep(0.1)
        assert not cleaning_up.done()
        go.set()
        built = await building
        await cleaning_up
        for blob in yard.layout.blobs_of(built.image.digest):
            yard.layout.verify_blob(blob)
        assert not yard.layout.blob_path(image).exists(), "it did clean"

    on_yard(tmp_path / "yard", sources, body)


ACTS = st.lists(
    st.tuples(st.sampled_from(["build", "deploy", "gc", "rollback"]), st.integers(0, 2), st.integers(0, 30)),
    min_size=2, max_size=8,
)  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_builds_deployments_and_gc_at_once(acts: list[tuple[str, int, int]], sources: Sources) -> None:
    """With no grace at all, so that only the order of things and the record protect what is needed."""

    async def body(yard: Yard) -> None:
        await yard.site.apply()
        for number in (0, 1):
            await yard.site.stable(await yard.build(number))

        async def act(what: str, number: int, wait: int) -> None:
            await asyncio.sleep(wait / 1000)
            if what == "build":
                await yard.build(number)
            elif what == "deploy":
                await yard.site.deploy(await yard.build(number), supersede=True)
            elif what == "rollback":
                await yard.site.rollback()
            else:
                await yard.gc()

        async def tried(work: Awaitable[None]) -> None:
            with suppress(Conflict, InvalidInput):  # a deployment came first, or there is nothing to go back to
                await work

        await asyncio.gather(*(tried(act(*item)) for item in acts))
        yard.check_whole(kept(yard), yard.installation.state / "again")
        await yard.gc()
        yard.check_whole(kept(yard), yard.installation.state / "again")

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "GRACE", -HOUR)
        patch.setattr(garbage, "LATELY", -HOUR)
        on_yard(Path(name), sources, body)


def test_the_disk_is_cleaned_once_a_day_and_when_it_is_full(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(yard: Yard) -> None:
        full = 0.5
        monkeypatch.setattr(yard.cleaner, "_fullness", lambda: full)
        yard.site.time = 100 * DAY
        assert await yard.cleaner.clean_if_due(), "never cleaned before"
        assert not yard.site.events(ev.StorageCleaned), "that there was nothing to do is no news"
        assert not await yard.cleaner.clean_if_due()
        await yard.build(0)
        yard.age(EVERY + UNDEPLOYED)
        assert await yard.cleaner.clean_if_due()
        (cleaned,) = [item for item in yard.site.ledger.read() if isinstance(item.event, ev.StorageCleaned)]
        assert cleaned.actor == "controller"
        full = FULL
        yard.age(GRACE - MINUTE)
        assert not await yard.cleaner.clean_if_due()
        yard.age(MINUTE)
        assert await yard.cleaner.clean_if_due()

    on_yard(tmp_path / "yard", sources, body)


def test_what_goes_wrong_is_recorded_and_disturbs_nobody(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(yard: Yard) -> None:
        await yard.site.apply()
        image = await yard.build(0)
        await yard.build(4)
        yard.age(KEEP_AGE)

        def refused(item: Any) -> None:
            raise OSError(30, "Read-only file system", item.removed.name)

        monkeypatch.setattr(cleaning, "removed", refused)
        assert await yard.cleaner.clean_if_due()
        assert "Read-only" in yard.site.events(ev.StorageCleaned)[-1].problem
        status = await yard.site.queries.status("")
        assert "Read-only" in status["storage"]["problem"]
        with pytest.raises(Failed, match="Read-only"):
            await yard.gc()
        await yard.site.deploy(image)
        monkeypatch.undo()
        yard.age(EVERY)
        await yard.cleaner.clean_if_due()
        status = await yard.site.queries.status("")
        assert (status["storage"]["problem"], status["storage"]["bytes"] > 0) == ("", True)

    on_yard(tmp_path / "yard", sources, body)


def test_many_images_fit_into_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    from stelae.images.rubbish import Removed, Rubbish, What

    items = [
        Rubbish(Removed(what=What.IMAGE, name=f"sha256:{number:064x}", size=1), lambda: None)
        for number in range(1201)
    ]
    events = cleaning._intents(items)
    assert [len(event.images) for event in events if isinstance(event, ev.StorageCleaning)] == [500, 500, 201]
