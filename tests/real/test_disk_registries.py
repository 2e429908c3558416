"""Disks to real registries and back: by the same digest, with what is signed of them, found from their image."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from stelae.domain.artifact import Disk
from stelae.domain.digest import hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import exchange, referrers
from stelae.images.disk_exchange import pull_disks, push_disk, take_disk
from stelae.images.disks import Disks, listed
from stelae.images.distribution import Repository
from stelae.images.layout import Layout
from stelae.images.registry import Access, Place, parse_place
from tests.real.registries import Modern, running
from tests.unit.attest.samples import packaged
from tests.unit.attest.test_disks import Place as Signed
from tests.unit.images.disk_parts import RAW, a_disk

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry"),
]

USUAL = Access()


def quiet(_: str) -> None:
    """Nobody looks."""


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    made = Signed(tmp_path / "own")
    made.sign()
    return made


def push(signed: Signed, name: str, work: Path) -> exchange.Sent:
    place = parse_place(f"{name}:1")
    if not work.exists():
        exchange.push(signed.layout, signed.image, place, USUAL, work / "image", quiet)
    shutil.rmtree(work / "disk", ignore_errors=True)
    return push_disk(signed.store, signed.disk.digest, place, USUAL, work / "disk", quiet)


def pull(signed: Signed, name: str, folder: Path) -> tuple[Disks, tuple[Disk, ...]]:
    """Take the image and its disks into another store."""
    other = Disks(Layout.open(folder / "images"), folder / "disks")
    place = Place(name=name, digest=signed.image)
    layout, image = exchange.pull(place, USUAL, folder / "coming", other.layout, quiet)
    assert referrers.digests(layout, image) == []
    found, forms = pull_disks(name, image, USUAL, folder / "disks coming", other, quiet)
    exchange.take(layout, image, other.layout, "shop")
    for form in forms:
        take_disk(found, form, other)
    shutil.rmtree(folder / "coming")
    shutil.rmtree(folder / "disks coming")
    return other, tuple(form.disk for form in forms)


def test_there_and_back_with_debians_registry(signed: Signed, tmp_path: Path) -> None:
    with running(tmp_path / "registry") as there:
        name = f"{there.address}/team/app"
        sent = push(signed, name, tmp_path / "work")
        assert (sent.referrers, sent.listed) == (4, False)
        push(signed, name, tmp_path / "work")
        entries = Repository(name, USUAL).tagged(signed.image)
        assert [item["digest"] for item in entries] == [signed.disk.digest], "it is listed once, beside no other"
        assert entries[0]["artifactType"] == "application/vnd.stelae.disk.v1"
        other, found = pull(signed, name, tmp_path / "other")
        assert found == (signed.disk,)
        assert other.open(signed.disk.digest).raw.read_bytes() == RAW
        own = referrers.digests(signed.layout, signed.disk.digest)
        assert sorted(referrers.digests(other.layout, signed.disk.digest)) == sorted(own)
        assert [entry.digest for entry in other.layout.images()] == [signed.image]
        assert other.of(signed.image) == (signed.disk,)


def test_a_registry_that_lists_referrers_itself_is_told_nothing_more(signed: Signed, tmp_path: Path) -> None:
    modern = Modern()
    try:
        name = f"{modern.address}/app"
        assert push(signed, name, tmp_path / "work").listed
        assert not [tag for tag in modern.manifests if tag.startswith("sha256-")]
        other, found = pull(signed, name, tmp_path / "other")
        assert found == (signed.disk,)
        assert other.get(signed.disk.digest) == signed.disk
    finally:
        modern.close()


def test_with_skopeo_and_zstd_alone(signed: Signed, tmp_path: Path) -> None:
    with running(tmp_path / "registry") as there:
        name = f"{there.address}/app"
        push(signed, name, tmp_path / "work")
        copied = tmp_path / "copied"
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--src-tls-verify=false",
             f"docker://{name}@{signed.disk.digest}", f"dir:{copied}"], check=True,
        )  # fmt: skip
        layers = json.loads((copied / "manifest.json").read_bytes())["layers"]
        titles = {item["annotations"]["org.opencontainers.image.title"]: item["digest"] for item in layers}
        compressed = copied / hex_of(titles["disk.raw.zst"])
        raw = subprocess.run(["zstd", "-dc", compressed], capture_output=True, check=True).stdout
        assert raw == RAW
        # And to another place, where it has the same digest.
        again = f"docker://{there.address}/second@{signed.disk.digest}"
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--src-tls-verify=false",
             "--dest-tls-verify=false", f"docker://{name}@{signed.disk.digest}", again], check=True,
        )  # fmt: skip
        assert Repository(f"{there.address}/second", USUAL).has(signed.disk.digest)


def test_several_disks_of_one_image_and_an_image_without(signed: Signed, tmp_path: Path) -> None:
    second = a_disk(signed.store, signed.image, RAW + b"x")
    with running(tmp_path / "registry") as there:
        name = f"{there.address}/app"
        exchange.push(signed.layout, signed.image, parse_place(f"{name}:1"), USUAL, tmp_path / "image", quiet)
        assert pull(signed, name, tmp_path / "none")[1] == ()
        for disk in (signed.disk, second):
            place = parse_place(f"{name}:1")
            push_disk(signed.store, disk.digest, place, USUAL, tmp_path / hex_of(disk.digest)[:9], quiet)
        other, found = pull(signed, name, tmp_path / "other")
        assert found == (signed.disk, second)
        assert listed(other.layout, signed.image) == (signed.disk.digest, second.digest)


def test_what_is_listed_and_is_no_disk_of_the_image_is_not_taken(signed: Signed, tmp_path: Path) -> None:
    stranger = packaged(signed.layout, "stranger")
    with running(tmp_path / "registry") as there:
        name = f"{there.address}/app"
        push(signed, name, tmp_path / "work")
        target = Repository(name, USUAL)
        entry = {**target.tagged(signed.image)[0], "digest": stranger}
        exchange.push(signed.layout, stranger, parse_place(f"{name}:x"), USUAL, tmp_path / "x", quiet)
        target.put_tagged(signed.image, [entry])
        with pytest.raises(Failed, match="is not the manifest of a disk"):
            pull(signed, name, tmp_path / "other")
        assert not (tmp_path / "other" / "images" / "disks").exists()


def test_a_disk_of_another_image_that_is_listed_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = packaged(signed.layout, "other")
    foreign = a_disk(signed.store, other, b"foreign")
    with running(tmp_path / "registry") as there:
        name = f"{there.address}/app"
        push(signed, name, tmp_path / "work")
        place = parse_place(f"{name}:2")
        push_disk(signed.store, foreign.digest, place, USUAL, tmp_path / "foreign", quiet)
        target = Repository(name, USUAL)
        target.put_tagged(signed.image, target.tagged(other))
        with pytest.raises(InvalidInput, match=r"is listed as a disk of .* and is of another image"):
            pull(signed, name, tmp_path / "other")
