"""The store of disks: found by image, unpacked once, checked before they are given away."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of, hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import disk_manifest
from stelae.images.disks import forget, listed
from tests.unit.images.disk_parts import RAW, a_disk, a_form, a_store, an_image


def test_the_disks_of_an_image_are_found_oldest_first_and_each_once(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image, other = an_image(disks.layout), an_image(disks.layout, "other")
    first, second = a_disk(disks, image), a_disk(disks, image, RAW + b"x")
    assert disks.of(image) == (first, second)
    assert disks.of(other) == ()
    assert disks.get(first.digest) == first
    assert a_disk(disks, image, RAW + b"x") == second
    assert disks.of(image) == (first, second)
    assert (first.image, first.size, first.raw) == (image, len(RAW), digest_of(RAW))
    # no tool takes a disk for an image
    assert {entry.digest for entry in disks.layout.images()} == {image, other}


def test_the_artifact_is_what_the_specification_of_oci_wants_and_names_its_image(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    disk = a_disk(disks, image)
    manifest = json.loads(disks.layout.blobs.read(disk.digest))
    assert manifest["artifactType"] == "application/vnd.stelae.disk.v1"
    assert manifest["subject"]["digest"] == image
    assert manifest["subject"]["size"] == len(disks.layout.blobs.read(image))
    titles = [item["annotations"]["org.opencontainers.image.title"] for item in manifest["layers"]]
    assert titles == ["disk.raw.zst", "kernel", "initrd"]
    said = json.loads(disks.layout.blobs.read(manifest["config"]["digest"]))
    assert (said["raw"], said["root_hash"]) == ({"digest": disk.raw, "size": len(RAW)}, disk.root_hash)


def test_it_is_unpacked_once_with_holes_and_nobody_can_write_to_it(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    disk = a_disk(disks, an_image(disks.layout))
    files = disks.open(disk.digest)
    assert files.raw.read_bytes() == RAW
    assert (files.kernel.read_bytes(), files.initrd.read_bytes()) == (b"kernel", b"initrd")
    assert files.cmdline.startswith("roothash=abab")
    assert {files.raw.parent, files.kernel.parent} == {tmp_path / "cache" / "disks" / hex_of(disk.digest)}
    assert files.raw.stat().st_blocks * 512 < len(RAW)
    assert all(path.stat().st_mode & 0o222 == 0 for path in (files.raw, files.kernel, files.initrd))
    before = files.raw.stat().st_ino
    assert disks.open(disk.digest) == files
    assert a_store(tmp_path).open(disk.digest).raw.stat().st_ino == before  # nor does the next controller


def test_a_file_that_is_there_is_taken_for_the_disk_and_checked_too(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    form = a_form(disks.layout, an_image(disks.layout))
    made, wrong = tmp_path / "made.raw", tmp_path / "wrong.raw"
    made.write_bytes(RAW)
    disk = disks.add(form, made)
    assert not made.exists()
    assert disks.open(disk.digest).raw.read_bytes() == RAW
    wrong.write_bytes(RAW[:-1] + b"x")
    other = a_form(disks.layout, form.image.digest, kernel=b"another")
    assert disks.open(disks.add(other, wrong).digest).raw.read_bytes() == RAW


def test_a_damaged_file_is_made_anew_and_who_has_it_open_keeps_it(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    disk = a_disk(disks, an_image(disks.layout))
    raw = disks.open(disk.digest).raw
    raw.chmod(0o644)
    with raw.open("r+b") as file:
        file.seek(2)
        file.write(b"X")
        file.flush()
        damaged = file.fileno()
        again = disks.open(disk.digest).raw
        assert again.read_bytes() == RAW
        assert os.pread(damaged, 4, 0) == b"boXt"
    again.unlink()
    assert disks.open(disk.digest).raw.read_bytes() == RAW
    assert list(again.parent.parent.glob(".making.*")) == []
    assert sorted(path.name for path in again.parent.iterdir()) == ["disk.raw", "initrd", "kernel"]


def test_a_file_that_is_distrusted_is_given_to_nobody_any_more(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    disk, other = a_disk(disks, image), a_disk(disks, image, RAW + b"x")
    raw, kept = disks.open(disk.digest).raw, disks.open(other.digest).raw.stat().st_ino
    with raw.open("rb") as held:
        found = raw.stat()
        disks.distrust((found.st_dev, found.st_ino))
        again = disks.open(disk.digest).raw
        assert again == raw
        assert again.stat().st_ino != found.st_ino
        assert held.read() == RAW
        assert again.read_bytes() == RAW
    assert disks.open(other.digest).raw.stat().st_ino == kept


@pytest.mark.parametrize("part", ["compressed", "kernel", "initrd"])
@pytest.mark.parametrize("harm", ["missing", "flipped", "cut"])
def test_a_damaged_blob_is_refused_by_its_digest_and_nothing_is_left(part: str, harm: str, tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    disk = a_disk(disks, an_image(disks.layout))
    form = disks.form(disk.digest)
    blob = disks.layout.blob_path(getattr(form, part).digest)
    data = bytearray(blob.read_bytes())
    blob.unlink()
    if harm == "flipped":
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    elif harm == "cut":
        blob.write_bytes(data[: len(data) // 2])
    with pytest.raises(Failed) as caught:
        disks.open(disk.digest)
    said = f"{caught.value} {caught.value.where} {caught.value.hint}"
    assert hex_of(getattr(form, part).digest) in said or str(blob) in said
    assert caught.value.hint
    assert [path.name for path in disks.folder.iterdir() if path.name != ".lock"] == []


def test_a_blob_that_holds_another_disk_than_is_said_is_refused(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    form = a_form(disks.layout, image)
    for raw in (RAW + b"more", RAW[:-1], RAW[:-1] + b"x"):
        lie = a_form(disks.layout, image, raw)
        blob = replace(form, compressed=lie.compressed)
        with pytest.raises(Failed, match="corrupted"):
            disks.open(disks.add(blob).digest)


def test_a_bomb_is_ended_at_the_size_that_the_disk_has(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    form = a_form(disks.layout, image)
    bomb = zstd.compress(bytes(300 << 20))
    compressed = disk_manifest.Blob(digest=disks.layout.add_blob(bomb), size=len(bomb))
    disk = disks.add(replace(form, compressed=compressed))
    with pytest.raises(Failed, match="corrupted"):
        disks.open(disk.digest)


def test_what_is_no_disk_is_none(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    with pytest.raises(Failed, match="is not the manifest of a disk"):
        disks.get(image)
    with pytest.raises(Failed, match="is not in the image store"):
        disks.get(digest_of(b"nowhere"))
    with pytest.raises(InvalidInput):
        disks.of(type(image)("../../etc"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("root_hash", "ab" * 31), ("root_hash", "zz" * 32), ("cmdline", "a\nb"), ("cmdline", "x" * 5000),
        ("uki", "sha256:12"), ("app", 3), ("format", "1"), ("format", True), ("raw", {"digest": "x", "size": 1}),
        ("raw", {"digest": digest_of(b""), "size": -1}), ("raw", {"digest": digest_of(b""), "size": 1 << 50}),
        ("kernel", {"digest": digest_of(b"other"), "release": "6"}), ("form", 2), ("more", 1), ("initrd", []),
    ],
)  # fmt: skip
def test_a_disk_from_elsewhere_says_no_more_and_no_less_than_one_of_ours(
    field: str, value: object, tmp_path: Path
) -> None:
    disks = a_store(tmp_path)
    form = a_form(disks.layout, an_image(disks.layout))
    config = canonical({**json.loads(form.config), field: value})
    manifest = json.loads(form.manifest)
    manifest["config"] |= {"digest": digest_of(config), "size": len(config)}
    with pytest.raises(Failed, match="is not the manifest of a disk"):
        disk_manifest.parse(canonical(manifest), config)
    assert disk_manifest.parse(form.manifest, form.config) == form


def test_a_disk_that_lacks_a_blob_is_not_added(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    form = a_form(disks.layout, image)
    disks.layout.blob_path(form.kernel.digest).unlink()
    with pytest.raises(Failed, match=f"the disk lacks {form.kernel.digest}"):
        disks.add(form)
    assert disks.of(image) == ()


def test_a_broken_list_is_told_with_its_path(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    a_disk(disks, image)
    place = disks.layout.folder / "disks" / "sha256" / f"{hex_of(image)}.json"
    for text in ("{", "[]", '{"manifests": [1]}'):
        place.write_text(text)
        with pytest.raises(Failed, match="the list of an image's disks is broken") as caught:
            disks.of(image)
        assert str(place) in str(caught.value)


def test_a_disk_that_is_forgotten_leaves_the_others(tmp_path: Path) -> None:
    disks = a_store(tmp_path)
    image = an_image(disks.layout)
    first, second = a_disk(disks, image), a_disk(disks, image, RAW + b"x")
    forget(disks.layout, image, first.digest)
    assert listed(disks.layout, image) == (second.digest,)
    forget(disks.layout, image, second.digest)
    assert listed(disks.layout, image) == ()
    assert list((disks.layout.folder / "disks" / "sha256").iterdir()) == []
