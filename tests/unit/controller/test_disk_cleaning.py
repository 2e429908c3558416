"""What the cleaner keeps of disks: those that were made lately, with their images and their locks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from stelae.controller.cleaner import UNDEPLOYED
from stelae.domain import event as ev
from stelae.domain.digest import digest_of, hex_of
from stelae.domain.image import Image, Source
from stelae.domain.units import HOUR
from stelae.images.blobs import Blobs
from stelae.images.disks import Disks
from tests.unit.controller.store import Store, on_store
from tests.unit.core.fixtures import WEB
from tests.unit.images.disk_parts import a_disk

COMMIT = "a" * 40
LOCK = b'# a lock\nformat = 2\narchitecture = "amd64"\nbase = "scratch"\npackages = []\n'


def age(store: Store, *, days: float) -> None:
    then = time.time() - days * 24 * 3600
    for folder in (store.layout.folder, store.installation.cache, store.installation.inputs):
        for path in folder.rglob("*"):
            os.utime(path, (then, then), follow_symlinks=False)


def test_a_disk_that_was_made_lately_stays_with_its_lock_and_then_goes(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        digest = store.old("v1")
        image = Image(digest=digest, app="shop", processes=(WEB,), layers=(), size=1)
        disks = Disks(store.layout, store.installation.cache / "disks")
        disk = a_disk(disks, digest)
        raw = disks.open(disk.digest).raw
        store.installation.inputs.mkdir(parents=True)
        lock = Blobs(store.installation.inputs).add(LOCK)
        await store.site.record.append([ev.ImageBuilt(image=image, source=Source(commit=COMMIT))], actor="ana")
        store.later = UNDEPLOYED
        await store.site.record.append([ev.DiskBuilt(disk=disk, commit=COMMIT, lock=lock)], actor="ana")
        made = store.site.record.state.disks[disk.digest].last_built_at
        store.later = made - store.site.clock() + UNDEPLOYED - HOUR
        age(store, days=30)
        await store.cleaner.gc("ana", False)
        assert disks.of(digest) == (disk,)
        assert raw.exists()
        assert store.layout.has(digest), "its image is a part of it"
        assert (store.installation.inputs / hex_of(lock)).exists(), "it can be made again"
        store.later += 2 * HOUR
        age(store, days=30)
        found = await store.cleaner.gc("ana", False)
        assert {"what": "disk", "name": disk.digest} in [
            {"what": item["what"], "name": item["name"]} for item in found["removed"]
        ]
        assert disks.of(digest) == ()
        assert not raw.exists()
        assert not (store.installation.inputs / hex_of(lock)).exists()
        assert found["left"] == []

    on_store(tmp_path, body)


def test_an_image_that_stays_does_not_keep_an_old_disk(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        digest = store.old("v1")
        disks = Disks(store.layout, store.installation.cache / "disks")
        disk = a_disk(disks, digest)
        await store.site.record.append([ev.DiskBuilt(disk=disk, commit=COMMIT)], actor="ana")
        store.later = UNDEPLOYED + HOUR
        image = Image(digest=digest, app="shop", processes=(WEB,), layers=(), size=1)
        store.site.time += store.later
        await store.site.record.append([ev.ImageBuilt(image=image, source=Source(commit=COMMIT))], actor="ana")
        store.later = 0
        age(store, days=30)
        await store.cleaner.gc("ana", False)
        assert store.layout.has(digest)
        assert disks.of(digest) == ()
        assert digest_of(b"kernel") not in set(store.layout.blobs.all())

    on_store(tmp_path, body)
