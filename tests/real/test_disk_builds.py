"""Disks of real packages: the same bytes in two places, of what is locked and nothing else, and a damage is told.

What a disk is made of besides its image is kept between runs (``boot_seed``); one test makes it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from stelae.build import lock as locks
from stelae.build.disk.packages import PACKAGES
from stelae.build.disk_builder import DiskBuilder
from stelae.build.request import BuildRequest, DiskResult
from stelae.build.source import with_disk
from stelae.domain.digest import hex_of
from stelae.domain.errors import Failed, Unreachable
from stelae.domain.inputs import InputKind
from stelae.images.disks import Disks
from stelae.images.roots import Roots
from tests.real.boot_seed import BASE, DISK, boot_stage, lend_boot
from tests.real.building import shell
from tests.real.test_reproducible import CHILD, elsewhere
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop, spec

pytestmark = [
    pytest.mark.real,
    pytest.mark.network,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bwrap") is None, reason="needs root and bubblewrap"),
]


class Site:
    """A small app that is made into disks, and where that is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        lend_boot(self.folder)
        self.repository = Repository(folder / "app")
        self.workshop = Workshop(self.folder, self.folder / "cache" / "build")
        self.disks = Disks(self.workshop.layout, self.folder / "cache" / "disks")
        self.roots = Roots(self.workshop.layout, self.folder / "layers", self.folder / "mounts")
        self.builder = DiskBuilder(self.workshop.builder, self.disks, self.roots)
        shell()  # skips where there is no busybox
        program = Path(shutil.which("busybox") or "").read_bytes()
        self.repository.commit({"stelae.toml": spec() + DISK, "serve": program, "www/index.html": "hello"})

    def request(self) -> BuildRequest:
        return replace(self.workshop.send(self.repository), offline=True)

    def build(self, request: BuildRequest | None = None) -> DiskResult:
        asked = request or self.request()
        image = self.workshop.builder.build(asked)
        return self.builder.build(asked, image.image, image.lock)

    def lock(self) -> str:
        """Commit a lock, and return it."""
        lock = locks.parse(self.workshop.build(self.repository).lock)
        text = with_disk(lock, boot_stage()).text()
        self.repository.commit({"stelae.lock": text})
        return text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.roots.unmount_unused(())


def apart(site: Site, place: Path, request: BuildRequest, prefix: Sequence[str], env: Mapping[str, str]) -> Any:
    """Build in a process of its own below *place*, started by *prefix*, with *env* in its environment."""
    import json

    done = subprocess.run(
        [*prefix, sys.executable, CHILD, place, site.workshop.folder / "sources", site.workshop.folder / "inputs"],
        input=json.dumps({**asdict(request), "secrets": {}}), text=True, capture_output=True, check=False,
        env={**os.environ, "DISK": "1", **env}, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_same_disk_three_years_later_on_another_machine_without_a_network(site: Site, tmp_path: Path) -> None:
    site.lock()
    made = site.build()
    assert (made.created, made.locked) == (True, True)
    prefix, env = elsewhere()
    found = apart(site, tmp_path / "another" / "folder", site.request(), prefix, env)
    assert found["raw"] == made.disk.raw
    assert found["disk"] == made.disk.digest
    assert found["disk_lock"] == made.lock
    assert subprocess.run(["cmp", found["file"], site.disks.open(made.disk.digest).raw], check=False).returncode == 0
    again = site.build()
    assert (again.created, again.disk) == (False, made.disk)


def test_what_changes_the_disk_and_what_does_not(site: Site) -> None:
    first = site.build()
    site.repository.commit({"README": "of the repository"})
    changed = site.build()
    assert changed.disk.image != first.disk.image
    assert changed.disk.raw != first.disk.raw
    assert changed.disk.kernel == first.disk.kernel
    text = (site.repository.folder / "stelae.toml").read_text()
    site.repository.commit({"stelae.toml": text + "[env.more]\nprocesses = { web = 2 }\n"})
    assert site.build().disk == changed.disk, "no environment is an input of it"
    assert len(site.disks.of(changed.disk.image)) == 1


def test_the_lock_has_the_packages_of_disks_and_no_image_depends_on_them(site: Site) -> None:
    before = site.workshop.build(site.repository)
    text = site.lock()
    stage = locks.parse(text).stages["disk"]
    assert (stage.base, stage.packages) == (BASE, PACKAGES)
    again = site.workshop.builder.lock(site.request())
    assert (again.text, again.changes) == (text, ())
    names = {item.name for item in stage.inputs}
    assert {"busybox-static", "cryptsetup-bin", "zstd", "erofs-utils"} <= names
    assert any(name.startswith("linux-image-6") for name in names)
    assert {item.kind for item in stage.inputs} == {InputKind.DEB}
    after = site.workshop.build(site.repository)
    assert "disk" not in locks.parse(after.lock).stages
    made = site.build()
    assert locks.parse(made.lock).stages["disk"] == stage
    # The image is of the same files but for the lock itself, which is no file of it.
    assert before.image.digest == after.image.digest


def test_without_a_network_and_a_package_the_package_is_named(site: Site, tmp_path: Path) -> None:
    text = site.lock()
    kernel = next(item for item in locks.parse(text).stages["disk"].inputs if item.name.startswith("linux-image-6"))
    site.workshop.builder._cache.folder.joinpath("steps").rename(tmp_path / "steps")
    (site.folder / "inputs" / hex_of(kernel.digest)).unlink()
    with pytest.raises(
        Unreachable, match=f"{kernel.name} .* is not in the store of inputs, and the build is offline"
    ):
        site.build()
    assert site.workshop.leftovers() == []


def test_a_damaged_package_is_refused(site: Site, tmp_path: Path) -> None:
    text = site.lock()
    kernel = next(item for item in locks.parse(text).stages["disk"].inputs if item.name.startswith("linux-image-6"))
    site.workshop.builder._cache.folder.joinpath("steps").rename(tmp_path / "steps")
    blob = site.folder / "inputs" / hex_of(kernel.digest)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    with pytest.raises(Failed, match=f"{kernel.digest} is corrupted"):
        site.build()


def test_a_disk_that_is_gone_is_made_again_with_the_same_digest(site: Site) -> None:
    first = site.build()
    blob = site.disks.form(first.disk.digest).compressed.digest
    site.workshop.layout.blob_path(blob).unlink()
    shutil.rmtree(site.disks.folder)
    with pytest.raises(Failed, match=hex_of(blob)):
        site.disks.open(first.disk.digest)
    assert site.build().disk == first.disk
    assert site.disks.open(first.disk.digest).raw.stat().st_size == first.disk.size
    assert site.workshop.leftovers() == []
