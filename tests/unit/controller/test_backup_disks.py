"""Backups of installations whose releases are of disks: what machines boot comes back with everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stelae.controller.deployments import Deployments
from stelae.controller.recovery.manifest import parse_manifest
from stelae.controller.recovery.restore import Given, Restored, restore
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed
from stelae.images.disks import Disks, listed
from stelae.images.layout import Layout
from stelae.system.installation import Installation
from tests.unit.controller.archives import opened, packed_again
from tests.unit.controller.estate import WHO, Estate, backed_up, installed, now, on_estate
from tests.unit.controller.site import spec
from tests.unit.images.disk_parts import RAW, a_disk

MACHINES = '[disk]\nbase = "debian:bookworm"\n' + spec(
    test='processes = { web = 1 }\nplatform = "vm"\nstrategy = { kind = "rolling", min_healthy = "0s" }'
)


class Old:
    """An installation with two disks of an image, one of which a release is of."""

    def __init__(self, folder: Path) -> None:
        self.own = installed(folder)
        self.disks: list[Disk] = []

        async def body(estate: Estate) -> None:
            await estate.site.apply(MACHINES)
            site = estate.site
            site.deployments = Deployments(site.record, site.platform, site.space, clock=site.clock)
            image = await estate.image("v1")
            store = Disks(estate.layout, self.own.cache / "disks")
            for raw in (b"unused" + RAW, RAW):
                self.disks.append(a_disk(store, image, raw))
                await site.record.append([ev.DiskBuilt(disk=self.disks[-1], commit="a" * 40)])
            assert (await site.stable(image))["disk"] == self.disks[-1].digest

        on_estate(self.own, body)

    @property
    def disk(self) -> Disk:
        return self.disks[-1]


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Installation:
    return installed(tmp_path / "new", "sty")


def brought_back(new: Installation, tmp_path: Path, archive: bytes) -> Restored:
    file = tmp_path / "backup.tar"
    file.write_bytes(archive)
    return restore(new, Given(source=file, **{**WHO, "host": "new.example.com"}), now)


def test_the_disk_of_a_release_comes_back_and_can_be_booted(old: Old, new: Installation, tmp_path: Path) -> None:
    archive, made = backed_up(old.own, with_keys=True)
    assert [item.digest for item in made.manifest.disks] == [old.disk.digest], "the other one is needed by nobody"
    assert (made.manifest.format, made.manifest.lacking) == (2, ())
    done = brought_back(new, tmp_path, archive)
    assert done.lacking == ()
    layout = Layout.open(new.images)
    assert listed(layout, old.disk.image) == (old.disk.digest,)
    files = Disks(layout, new.cache / "disks").open(old.disk.digest)
    assert (files.disk, files.raw.read_bytes()) == (old.disk, RAW)


def test_a_disk_that_is_not_whole_is_told_and_a_backup_is_made_all_the_same(
    old: Old, new: Installation, tmp_path: Path
) -> None:
    layout = Layout.open(old.own.images)
    layout.blob_path(Disks(layout, old.own.cache / "disks").form(old.disk.digest).compressed.digest).unlink()
    archive, made = backed_up(old.own, with_keys=True)
    assert (made.manifest.disks, made.manifest.lacking) == ((), (old.disk.digest,))
    assert brought_back(new, tmp_path, archive).lacking == (old.disk.digest,)


def test_a_disk_that_was_taken_out_of_a_backup_is_missed(old: Old, new: Installation, tmp_path: Path) -> None:
    parts = opened(backed_up(old.own, with_keys=True)[0])
    document = json.loads(parts["backup.json"])
    (gone,) = document.pop("disks")
    rest = {blob for image in document["images"] for blob in (*image["blobs"], image["referrers"])}
    for blob in {*gone["blobs"]} - rest:
        del document["blobs"][blob], parts[f"blobs/sha256/{blob[7:]}"]
    archive = packed_again({**parts, "backup.json": json.dumps(document).encode()})
    with pytest.raises(Failed, match=f"the disk {old.disk.digest}, which an environment needs, is not in the backup"):
        brought_back(new, tmp_path, archive)


def test_a_part_of_a_disk_that_was_taken_out_is_missed(old: Old, new: Installation, tmp_path: Path) -> None:
    parts = opened(backed_up(old.own, with_keys=True)[0])
    document = json.loads(parts["backup.json"])
    kernel = str(Disks(Layout.open(old.own.images), old.own.cache / "d").form(old.disk.digest).kernel.digest)
    document["disks"][0]["blobs"].remove(kernel)
    del document["blobs"][kernel], parts[f"blobs/sha256/{kernel[7:]}"]
    archive = packed_again({**parts, "backup.json": json.dumps(document).encode()})
    with pytest.raises(Failed, match=f"the disk lacks {kernel}"):
        brought_back(new, tmp_path, archive)


def test_a_backup_without_disks_is_of_the_form_that_older_versions_read(tmp_path: Path) -> None:
    own = installed(tmp_path / "old")

    async def body(estate: Estate) -> None:
        await estate.site.apply(spec(test="processes = { web = 1 }"))
        await estate.site.stable(await estate.image("v1"))

    on_estate(own, body)
    _, made = backed_up(own)
    document = json.loads(made.manifest.encoded)
    assert (document["format"], "disks" in document) == (1, False)
    assert parse_manifest(made.manifest.encoded, "here") == made.manifest
    assert Digest(made.manifest.images[0].digest)
