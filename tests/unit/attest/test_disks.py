"""A disk is signed as an image is: by its own digest, with what is inside, and how it was made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from stelae.attest import disks
from stelae.attest.checking import Proof, check
from stelae.attest.contents import Inspector
from stelae.attest.disks import DiskBuild
from stelae.domain.artifact import Disk
from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of, hex_of
from stelae.domain.errors import Failed
from stelae.domain.inputs import Input, InputKind
from stelae.domain.trust import Requirement
from stelae.images.disks import Disks
from stelae.images.layout import Layout, image_of
from tests.unit.attest.samples import SOURCE, layers_of, packaged
from tests.unit.attest.test_checking import KEY
from tests.unit.images.disk_parts import a_disk

KERNEL = b"""\
Package: linux-image-6.1
Status: install ok installed
Architecture: amd64
Version: 6.1.1-1

Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10

Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21
"""
INPUTS = (
    Input(
        kind=InputKind.DEB, name="linux-image-6.1", version="6.1.1-1", architecture="amd64", digest=digest_of(b"deb")
    ),
)


def disk_build_of(layout: Layout, disk: Disk) -> DiskBuild:
    """A making that gave the disk."""
    boot = layers_of(layout, {b"var/lib/dpkg/status": KERNEL, b"etc/os-release": b'ID=debian\nVERSION_ID="12"\n'})
    return DiskBuild(
        disk=disk, image=image_of(layout, disk.image), source=SOURCE, inputs=INPUTS,
        packages=("linux-image-6.1", "libc6"), boot=tuple(boot), lock=digest_of(b"lock"), format=1,
        architecture="amd64", index=9, started=1_796_040_000_000_000, finished=1_796_040_003_000_000,
    )  # fmt: skip


class Place:
    """A store with a signed disk."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout.open(folder / "images")
        self.store = Disks(self.layout, folder / "disks")
        self.image = packaged(self.layout, "shop")
        self.disk = a_disk(self.store, self.image)
        self.build = disk_build_of(self.layout, self.disk)
        self.inspector = Inspector(self.layout, folder / "contents")

    def sign(self, build: DiskBuild | None = None) -> Proof:
        disks.attest(self.layout, self.inspector, build or self.build, KEY)
        return self.proof()

    def proof(self) -> Proof:
        return check(self.layout, self.disk.digest, {KEY.public.id: KEY.public.pem}, {})

    def said(self, need: Requirement) -> Any:
        found = self.proof().of(need)
        assert found is not None
        return found.predicate


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.sign()
    return made


def test_a_signed_disk_proves_all_that_an_image_does_and_its_image_proves_nothing_by_it(place: Place) -> None:
    assert not place.proof().problems
    assert {need for need in Requirement if not place.proof().lacks(need)} == set(Requirement)
    of_image = check(place.layout, place.image, {KEY.public.id: KEY.public.pem}, {})
    assert all(of_image.lacks(need) for need in Requirement)


def test_its_provenance_names_the_image_the_lock_and_each_package(place: Place) -> None:
    said = place.said(Requirement.PROVENANCE)
    definition = said["buildDefinition"]
    assert definition["buildType"] == "https://stelae.dev/build/disk/v1"
    assert definition["internalParameters"] == {"format": 1, "architecture": "amd64", "committed": True}
    taken = {item["name"]: item["digest"] for item in definition["resolvedDependencies"]}
    assert taken["source"] == {"gitCommit": SOURCE.commit}
    assert taken["image"] == {"sha256": hex_of(place.image)}
    assert taken["stelae.lock"] == {"sha256": hex_of(digest_of(b"lock"))}
    assert taken["linux-image-6.1"] == {"sha256": hex_of(digest_of(b"deb"))}
    byproducts = {item["name"]: item["digest"]["sha256"] for item in said["runDetails"]["byproducts"]}
    assert byproducts["disk.raw"] == hex_of(place.disk.raw)
    assert byproducts["uki"] == hex_of(place.disk.uki)
    assert byproducts["sbom"] == hex_of(digest_of(canonical(place.said(Requirement.SBOM))))
    assert said["runDetails"]["metadata"]["invocationId"] == "ledger:9"
    assert SOURCE.subject not in json.dumps(said)


def test_what_is_inside_is_what_its_image_has_and_what_starts_it(place: Place) -> None:
    document = place.said(Requirement.SBOM)
    names = [item["name"] for item in document["components"]]
    assert sorted(names) == ["@scope/thing", "flask-login", "libc6", "linux-image-6.1", "tzdata"]
    assert "dpkg" not in names, "it is a package of the boot root of which the disk has no file"
    kernel = next(item for item in document["components"] if item["name"] == "linux-image-6.1")
    assert kernel["hashes"] == [{"alg": "SHA-256", "content": hex_of(digest_of(b"deb"))}]
    assert document["metadata"]["component"]["version"] == place.disk.digest
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(canonical(document).decode())
    assert problem is None, problem


def test_what_is_said_of_another_disk_proves_nothing_of_this_one(place: Place) -> None:
    other = a_disk(place.store, place.image, b"another")
    found = check(place.layout, other.digest, {KEY.public.id: KEY.public.pem}, {})
    assert all(found.lacks(need) for need in Requirement)


def test_a_disk_that_is_not_there_is_not_signed(place: Place) -> None:
    gone = replace(place.build, disk=replace(place.disk, digest=digest_of(b"gone")))
    with pytest.raises(Failed, match="is not in the image store"):
        place.sign(gone)
