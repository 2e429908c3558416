"""Disks by the command line of a whole installation: made, proven, shown, sent to another one, made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import tiny
from tests.real.boot_seed import DISK, lend_boot
from tests.real.machine import Machine
from tests.real.registries import running

pytestmark = [pytest.mark.real, pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(seed=False, checked=False) as made:
        lend_boot(made.installation.state)
        yield tiny.make(made.start(), more=DISK)


def build(machine: Machine, *more: str) -> tuple[str, str]:
    """Build an image and its disk, offline, and return both digests."""
    lines = machine.cli("build", "--artifact", "disk", "--offline", *more).stdout.splitlines()
    return lines[-2], lines[-1]


def raw_of(machine: Machine, disk: str) -> Path:
    return machine.installation.cache / "disks" / disk.removeprefix("sha256:") / "disk.raw"


def test_a_disk_is_made_once_proven_shown_and_refused_when_it_was_revoked(machine: Machine) -> None:
    plain = machine.json("build")["image"]
    begun = time.monotonic()
    image, disk = build(machine)
    took = time.monotonic() - begun
    assert image == plain, "the image is the same, with a disk and without"
    assert build(machine) == (image, disk)
    shown = machine.json("show", disk)
    assert (shown["kind"], shown["image"], shown["size"]) == ("disk", image, raw_of(machine, disk).stat().st_size)
    proof = shown["proof"]
    assert proof["trusted"]
    assert all(proof[name]["ok"] for name in ("signature", "provenance", "sbom"))
    names = {item["name"] for item in proof["packages"]}
    assert any(name.startswith("linux-image-6") for name in names)
    assert "busybox-static" in names
    assert not names & {"dpkg", "apt", "zstd", "erofs-utils"}, "what only makes disks is not inside"
    assert machine.json("show", image)["disks"] == [disk]
    said = machine.cli("show", disk[7:19]).stdout
    assert "signature   ok" in said
    assert shown["kernel"] in said
    document = json.loads(machine.cli("show", "--provenance", disk).stdout)
    assert document["buildDefinition"]["buildType"] == "https://stelae.dev/build/disk/v1"
    history = machine.cli("history", "--all").stdout
    assert history.count(f"made disk {disk[7:19]} of image {image[7:19]}") == 1
    assert took < 120, took
    machine.cli("revoke", disk, "--reason", "its kernel has a hole")
    assert "REVOKED" in machine.cli("show", disk).stdout
    assert not machine.json("show", disk)["proof"]["trusted"]
    assert machine.json("show", image)["proof"]["trusted"]


def test_what_is_wrong_ends_with_2_and_says_what_to_do(machine: Machine) -> None:
    machine.edit("stelae.toml", DISK, "").commit("without disks")
    done = machine.cli("build", "--artifact", "disk", check=False)
    assert done.returncode == 2
    assert "stelae.toml: disk: no disks are made of this app" in done.stderr
    assert 'add [disk] with base = "debian:bookworm"' in done.stderr
    machine.edit("stelae.toml", 'base = "scratch"', 'base = "scratch"\nbse = "x"').commit("a slip")
    assert machine.cli("build", "--artifact", "disk", check=False).returncode == 2
    assert machine.cli("build", "--artifact", "floppy", check=False).returncode == 2


def test_a_damaged_blob_is_refused_by_digest_and_path_and_the_disk_is_made_again_as_it_was(machine: Machine) -> None:
    image, disk = build(machine)
    manifest = json.loads((machine.installation.images / "blobs/sha256" / disk[7:]).read_bytes())
    blob = machine.installation.images / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    blob.chmod(0o444)
    with running(machine.folder / "registry") as there:
        done = machine.cli("push", image, f"{there.address}/tiny:1", "--artifact", "disk", check=False)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    blob.unlink()
    shutil.rmtree(raw_of(machine, disk).parent)
    assert build(machine) == (image, disk)
    assert raw_of(machine, disk).stat().st_size > 0


def test_a_disk_goes_to_another_installation_by_a_registry_and_is_the_same_there(machine: Machine) -> None:
    image, disk = build(machine)
    with running(machine.folder / "registry") as there, Machine(seed=False, checked=False) as other:
        name = f"{there.address}/team/tiny"
        other.start()
        machine.cli("push", image, f"{name}:image")
        done = other.cli("pull", f"{name}:image", "--artifact", "disk", check=False)
        assert done.returncode == 2
        assert "has no disk of image" in done.stderr
        assert "stelae push --artifact disk" in done.stderr
        sent = machine.json("push", image, f"{name}:1", "--artifact", "disk")
        assert sent["disks"] == [disk]
        (other.folder / "stelae.pub").write_text(machine.json("key", "show")["pem"])
        other.cli("key", "import", other.folder / "stelae.pub")
        taken = other.json("pull", f"{name}:1", "--artifact", "disk")
        assert (taken["image"], taken["disks"]) == (image, [disk])
        shown = other.json("show", disk)
        assert shown["proof"]["trusted"]
        assert shown["proof"]["signature"]["ok"]
        assert shown["commits"] == []
        assert f"took disk {disk[7:19]} of image {image[7:19]} from {name}" in other.cli("history", "--all").stdout
        done = other.cli("reproduce", disk, check=False)
        assert done.returncode == 1
        assert "reproduce it where it was made" in done.stderr


def test_a_disk_that_nobody_needs_goes_and_one_that_is_new_stays(machine: Machine) -> None:
    _, disk = build(machine)
    assert machine.json("gc")["removed"] == []
    index = machine.installation.images / "disks" / "sha256"
    assert len(list(index.iterdir())) == 1
    then = time.time() - 2 * 3600
    for path in [*machine.installation.images.rglob("*"), raw_of(machine, disk).parent]:
        os.utime(path, (then, then))
    kept = machine.json("gc")
    assert disk not in {item["name"] for item in kept["removed"]}, "it was made a short while ago"
    assert kept["left"] == []
    assert raw_of(machine, disk).exists()


def test_the_compressed_disk_is_what_anybody_can_unpack(machine: Machine) -> None:
    _, disk = build(machine)
    blobs = machine.installation.images / "blobs" / "sha256"
    manifest = json.loads((blobs / disk[7:]).read_bytes())
    said = json.loads((blobs / manifest["config"]["digest"][7:]).read_bytes())
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    packed = blobs / manifest["layers"][0]["digest"][7:]
    done = subprocess.run(f"zstd -dc {packed} | sha256sum", shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == said["raw"]["digest"][7:]
    assert sum(item["size"] for item in manifest["layers"]) < 130 << 20
