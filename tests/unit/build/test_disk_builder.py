"""From an image to a disk in the store, with a maker that makes a few KiB: what is kept, found, and made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.build import boot_root as roots_of_disks
from stelae.build import disk_builder
from stelae.build import lock as locks
from stelae.build.bench import Bench
from stelae.build.boot_root import BootRoot
from stelae.build.cache import Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.disk import maker
from stelae.build.disk_builder import DiskBuilder
from stelae.build.reproduce import Reproducer
from stelae.build.request import DiskResult
from stelae.build.source import Source
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed
from stelae.images.disk_manifest import RAW
from stelae.images.disks import Disks
from stelae.images.roots import Roots
from stelae.images.tree import Tree, file
from tests.unit.build.repository import Repository
from tests.unit.build.test_disk_lock import DISK, KERNEL, STAGE
from tests.unit.build.workshop import Workshop, spec


class Making:
    """Makes a disk that has the image's digest inside; ``initrd`` is what another Stelae would have put there."""

    def __init__(self, initrd: bytes = b"initrd") -> None:
        self.initrd = initrd
        self.count = 0
        self.problem: Exception | None = None

    def __call__(
        self, root: Path, boot: Path, folder: Path, image: Digest, progress: Callable[[str], None]
    ) -> maker.Made:  # fmt: skip
        self.count += 1
        assert list(folder.iterdir()) == []
        assert (boot / "kernel").read_bytes() == b"kernel 1"
        progress("disk: writing the root")
        (folder / "disk.raw").write_bytes(image.encode() + bytes(100_000) + self.initrd)
        for name, data in (("uki", b"uki"), ("kernel", b"kernel 1"), ("initrd", self.initrd)):
            (folder / name).write_bytes(data)
        if self.problem is not None:
            raise self.problem
        return maker.Made(
            raw=folder / "disk.raw", uki=folder / "uki", kernel=folder / "kernel", initrd=folder / "initrd",
            cmdline="roothash=" + "ab" * 32, root_hash="ab" * 32, release="6.1.1", packages=("linux-image-6.1",),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What takes packages, mounts and a sandbox is a layer of one file, nothing, and our own zstd."""

    def made(bench: Bench, source: Source) -> BootRoot:
        roots_of_disks._check(source, replace(STAGE, archive="", inputs=()))
        tree = Tree()
        tree.add(b"kernel", file(b"kernel 1"))
        digest, size = bench.cache.layout.add_layer(tree, mtime=FILE_TIME)
        return BootRoot(made=Made(layers=(LayerFile(digest=digest, size=size),)), stage=STAGE)

    def folder(self: BootRoot, bench: Bench) -> Path:
        place = bench.work / "boot"
        place.mkdir()
        (place / "kernel").write_bytes(b"kernel 1")
        return place

    def boxed(boot: Path, argv: list[str], *, write: Path) -> None:
        from stelae.images.decompress import zstd

        assert argv[0] == "zstd"
        (write / "disk.raw.zst").write_bytes(zstd.compress((write / "disk.raw").read_bytes()))

    monkeypatch.setattr(disk_builder, "boot_root", made)
    monkeypatch.setattr(BootRoot, "folder", folder)
    monkeypatch.setattr(disk_builder, "boxed", boxed)
    monkeypatch.setattr(Roots, "mount_image", lambda self, digest: tmp_path)
    monkeypatch.setattr(Roots, "unmount_unused", lambda self, keep: ())


class Place:
    """A workshop that makes disks."""

    def __init__(self, workshop: Workshop, repository: Repository, folder: Path) -> None:
        self.workshop, self.repository = workshop, repository
        self.disks = Disks(workshop.layout, folder / "disks")
        self.roots = Roots(workshop.layout, folder / "layers", folder / "mounts")
        self.making = Making()
        self.repository.commit({"stelae.toml": spec() + DISK, "serve": "#!"})
        self.lines: list[str] = []

    def build(self, making: Any = None) -> DiskResult:
        built = self.workshop.build(self.repository)
        use = DiskBuilder(self.workshop.builder, self.disks, self.roots, making or self.making)
        return use.build(self.workshop.send(self.repository), built.image, built.lock, self.lines.append)


@pytest.fixture
def place(workshop: Workshop, repository: Repository, tmp_path: Path) -> Place:
    return Place(workshop, repository, tmp_path)


def test_a_disk_is_in_the_store_unpacked_and_told(place: Place) -> None:
    made = place.build()
    (disk,) = place.disks.of(made.disk.image)
    assert disk == made.disk
    files = place.disks.open(disk.digest)
    assert files.raw.read_bytes() == disk.image.encode() + bytes(100_000) + b"initrd"
    assert (files.kernel.read_bytes(), files.initrd.read_bytes()) == (b"kernel 1", b"initrd")
    assert (made.created, made.locked, made.inputs, made.packages) == (True, False, (KERNEL,), ("linux-image-6.1",))
    form = place.disks.form(disk.digest)
    assert form.packages == digest_of(f'[["{KERNEL.name}","{KERNEL.version}","{KERNEL.digest}"]]'.encode()), (
        "anybody can compute it of the lock"
    )
    assert form.app == "shop"
    assert "disk: writing the root" in place.lines
    assert place.workshop.leftovers() == []


def test_the_same_again_is_found_and_another_image_is_another_disk(place: Place) -> None:
    first = place.build()
    again = place.build()
    assert (again.created, again.disk, again.lock, again.packages) == (False, first.disk, first.lock, first.packages)
    assert place.making.count == 1
    place.repository.commit({"serve": "#! other"})
    other = place.build()
    assert other.disk.raw != first.disk.raw
    assert place.making.count == 2


def test_what_the_store_lost_is_made_again_as_it_was(place: Place) -> None:
    first = place.build()
    place.workshop.layout.blob_path(place.disks.form(first.disk.digest).compressed.digest).unlink()
    shutil.rmtree(place.disks.folder)
    again = place.build()
    assert again.disk == first.disk
    assert place.making.count == 2
    assert (place.disks.folder / first.disk.digest[7:] / "disk.raw").exists(), "what was just made is not unpacked"
    assert place.disks.open(again.disk.digest).raw.stat().st_size == first.disk.size


def test_the_lock_of_a_disk_is_that_of_its_image_and_its_own_and_is_kept(place: Place) -> None:
    made = place.build()
    lock = locks.parse(made.lock)
    assert lock.stages["disk"] == STAGE
    image = locks.parse(place.workshop.build(place.repository).lock)
    assert {name: stage for name, stage in lock.stages.items() if name != "disk"} == image.stages
    kept = place.workshop.folder / "inputs" / digest_of(made.lock.encode()).removeprefix("sha256:")
    assert kept.read_text() == made.lock
    place.repository.commit({"stelae.lock": made.lock})
    assert place.build().locked


def test_what_fails_half_way_leaves_no_disk_and_no_rubbish(place: Place) -> None:
    place.making.problem = Failed("the image has no /proc to mount on")
    with pytest.raises(Failed, match="has no /proc"):
        place.build()
    image = place.workshop.build(place.repository).image.digest
    assert place.disks.of(image) == ()
    assert place.workshop.leftovers() == []
    place.making.problem = None
    assert place.build().created


def test_it_is_made_again_in_a_clean_place_and_a_part_that_differs_is_named(place: Place, tmp_path: Path) -> None:
    made = place.build()
    shop = place.workshop
    request = replace(shop.send(place.repository), lock=made.lock)

    def again(making: Making, disk: Digest) -> Any:
        use = Reproducer(shop.layout, shop.mirror, tmp_path / "again", shop.folder / "inputs", make=making)
        report = use.reproduce(made.disk.image, request, disk=disk)
        assert list((tmp_path / "again").iterdir()) == []
        return report

    report = again(Making(), made.disk.digest)
    assert report.equal
    assert (report.disk.made, report.disk.known, report.disk.parts) == (made.disk.digest, True, ())
    other = again(Making(b"another"), made.disk.digest)
    assert (other.wanted == other.made, other.equal) == (True, False)
    assert other.disk.parts == ("raw", "compressed", "initrd")
    gone = again(Making(), digest_of(b"gone"))
    assert (gone.equal, gone.disk.known, gone.disk.parts) == (False, False, ())


def test_two_makings_are_compared(place: Place, tmp_path: Path) -> None:
    class Fickle(Making):
        def __call__(self, *given: Any) -> maker.Made:
            self.initrd = f"initrd {self.count}".encode()
            return super().__call__(*given)

    shop, request = place.workshop, place.workshop.send(place.repository)
    for making, parts in ((Making(), ()), (Fickle(), ("raw", "compressed", "initrd"))):
        use = Reproducer(shop.layout, shop.mirror, tmp_path / "again", shop.folder / "inputs", make=making)
        report = use.check(request, disk=True)
        assert report.disk is not None
        assert (report.disk.parts, report.equal) == (parts, not parts)
        assert making.count == 2
    assert use.check(request).disk is None


def test_the_compressed_disk_has_the_name_that_tools_give_it(place: Place) -> None:
    manifest = place.workshop.layout.manifest(place.build().disk.digest)
    (raw,) = [item for item in manifest["layers"] if item["mediaType"] == RAW]
    assert raw["annotations"] == {"org.opencontainers.image.title": "disk.raw.zst"}
