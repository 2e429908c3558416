"""Garbage collection of disks: a disk that is a root stays whole, with its signatures; the others go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed
from stelae.domain.units import HOUR
from stelae.images import disk_gc, referrers
from stelae.images.disks import Disks
from stelae.images.gc import collect
from stelae.images.rubbish import What
from stelae.system import clock
from tests.unit.images.disk_parts import RAW, a_disk, a_store, an_image


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return a_store(tmp_path)


def signed(disks: Disks, name: Digest) -> frozenset[Digest]:
    subject = name, len(disks.layout.blobs.read(name))
    said = referrers.referrer(subject, b"signed " + name.encode(), media_type="application/x-test", annotations={})
    referrers.add(disks.layout, name, [said])
    return referrers.blobs_of(disks.layout, name)


def age(disks: Disks, *, hours: float = 2) -> None:
    then = time.time() - hours * 3600
    for path in [*disks.layout.folder.rglob("*"), *disks.folder.rglob("*")]:
        os.utime(path, (then, then))


def removed(disks: Disks, *roots: Digest) -> list[tuple[What, str]]:
    return [(item.what, item.name) for item in collect(disks.layout, disks.folder.parent / "layers", set(roots))]


def test_a_disk_that_is_a_root_stays_whole_and_others_of_its_image_go(disks: Disks) -> None:
    image = an_image(disks.layout)
    kept, gone = a_disk(disks, image), a_disk(disks, image, RAW + b"x")
    own = signed(disks, kept.digest) | disks.layout.blobs_of(kept.digest)
    its = signed(disks, gone.digest) | disks.layout.blobs_of(gone.digest)
    age(disks)
    found = removed(disks, image, kept.digest)
    assert found[0] == (What.DISK, gone.digest)
    assert {name for what, name in found if what is What.BLOB} == its - own
    assert disks.of(image) == (kept,)
    assert disks.open(kept.digest).raw.read_bytes() == RAW
    assert own <= set(disks.layout.blobs.all())
    assert referrers.digests(disks.layout, kept.digest)
    assert referrers.digests(disks.layout, gone.digest) == []
    age(disks)
    assert removed(disks, image, kept.digest) == []


def test_an_image_that_stays_keeps_no_disk_and_one_that_goes_takes_its_own(disks: Disks) -> None:
    stays, goes = an_image(disks.layout), an_image(disks.layout, "other")
    first, second = a_disk(disks, stays), a_disk(disks, goes)
    age(disks)
    found = removed(disks, stays)
    assert set(found[:2]) == {(What.DISK, first.digest), (What.DISK, second.digest)}
    assert found[2] == (What.IMAGE, goes)
    assert disks.of(stays) == disks.of(goes) == ()
    assert set(disks.layout.blobs.all()) == disks.layout.blobs_of(stays)
    assert list((disks.layout.folder / "disks" / "sha256").iterdir()) == []


def test_a_disk_that_is_young_stays_with_all_that_it_has(disks: Disks) -> None:
    image = an_image(disks.layout)
    disk = a_disk(disks, image)
    signed(disks, disk.digest)
    age(disks)
    os.utime(disks.layout.blob_path(disk.digest))
    assert [name for what, name in removed(disks, image) if what is not What.LAYER] == []
    assert disks.open(disk.digest).raw.read_bytes() == RAW


def test_a_disk_that_is_unpacked_goes_when_nobody_used_it_lately(disks: Disks) -> None:
    image = an_image(disks.layout)
    kept, used, gone = (a_disk(disks, image, RAW + text) for text in (b"1", b"2", b"3"))
    for disk in (kept, used, gone):
        disks.open(disk.digest)
    (disks.folder / ".making.1").mkdir()
    (disks.folder / "mine").write_text("somebody else's")
    age(disks)
    disks.open(used.digest)
    found = disk_gc.find_unpacked(disks.folder, {kept.digest}, clock.now() - HOUR)
    assert {Path(item.removed.name).name for item in found.rubbish} == {hex_of(gone.digest), ".making.1"}
    assert [path.name for path in found.foreign] == ["mine"]
    for item in found.rubbish:
        item.remove()
    assert disks.open(gone.digest).raw.read_bytes() == RAW + b"3"


def test_a_broken_list_stops_the_collection_since_what_it_names_is_unknown(disks: Disks) -> None:
    image = an_image(disks.layout)
    disk = a_disk(disks, image)
    (disks.layout.folder / "disks" / "sha256" / f"{hex_of(image)}.json").write_text("{")
    age(disks)
    with pytest.raises(Failed, match="the list of an image's disks is broken"):
        removed(disks, image)
    assert disks.layout.has(disk.digest)
