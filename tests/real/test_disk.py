"""A disk that is full, and a disk that lies: what is refused, and that the old release serves on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stelae.domain.digest import Digest
from stelae.images.erofs import layer_path
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

MB = 1 << 20


@pytest.fixture
def small() -> Iterator[Machine]:
    """A machine whose state folder is a disk of its own, of 128 MB."""
    with Machine(seed=False) as machine:
        disk = machine.folder / "disk"
        with disk.open("wb") as file:
            file.truncate(128 * MB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", disk], check=True)
        machine.installation.state.mkdir()
        done = subprocess.run(["mount", "-o", "loop", disk, machine.installation.state], capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"no loop device: {done.stderr!r}")
        tiny.make(machine.start())
        machine.cli("deploy", "testing")
        yield machine
        assert "Traceback" not in machine.log.read_text()


def free(machine: Machine) -> int:
    disk = os.statvfs(machine.installation.state)
    return disk.f_bavail * disk.f_frsize


def fill(machine: Machine, leave: int) -> None:
    """Have somebody else use the disk, up to *leave* bytes."""
    filler = machine.installation.state / "filler"
    filler.unlink(missing_ok=True)
    os.sync()
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, free(machine) - leave))
        while leave == 0:
            try:
                file.seek(0, os.SEEK_END)
                file.write(b"x" * 512)
            except OSError:
                break


def make_room(machine: Machine) -> None:
    (machine.installation.state / "filler").unlink()


def images(machine: Machine) -> bytes:
    return (machine.installation.images / "index.json").read_bytes()


def leftovers(machine: Machine) -> list[str]:
    """Files that only exist while something is being made."""
    state = machine.installation.state
    found = [path for name in (".adding.*", ".making.*", "incoming-*") for path in state.rglob(name)]
    return [str(path) for path in [*found, *machine.installation.cache.glob("pack-*"), *state.rglob("work/*")]]


def test_a_build_that_fills_the_disk_is_refused_and_leaves_nothing(small: Machine) -> None:
    before, release = images(small), small.status()["release"]
    # The source of 12 MB is sent, taken into the mirror, and becomes a layer and then a file system: each gets
    # its turn to find the disk full.
    tiny.version(small, "2", weight=12 * MB)
    for leave in (0, 1, 5, 10, 14, 20, 27, 33):
        fill(small, leave * MB)
        done = small.cli("deploy", "testing", check=False)
        if done.returncode == 0:
            break
        assert done.returncode == 1, done.stderr
        assert "disk is" in done.stderr or "No space left on device" in done.stderr, done.stderr
        assert "stelae gc" in done.stderr, done.stderr
        assert small.status()["release"] == release
        assert small.status()["state"] == "steady"
        assert tiny.ask(small) == "version 1"
        assert leftovers(small) == []
        if "image " not in done.stdout:
            assert images(small) == before
    else:
        make_room(small)
        small.cli("deploy", "testing")
    assert leave > 10, "the disk was never full in the middle of a build"
    assert tiny.ask(small) == "version 2"
    assert small.differences_soon() == []
    small.client.post("/v1/verify-ledger")


def test_on_a_full_disk_nothing_new_gets_in_but_the_ways_back_do(small: Machine) -> None:
    first = small.status()["release"]
    tiny.version(small, "2")
    small.cli("deploy", "testing")
    tiny.version(small, "3")
    third = small.json("build")["image"]
    fill(small, 0)
    assert free(small) == 0
    before = small.status()
    for arguments in (("deploy", "testing", "--image", third), ("build",)):
        done = small.cli(*arguments, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("the disk is nearly full; nothing was "), done.stderr
        assert "stelae gc" in done.stderr
    small.edit("stelae.toml", "web = 2", "web = 3")
    assert small.cli("env", "apply", check=False).returncode == 1
    after = small.status()
    assert {**after, "since": 0} == {**before, "since": 0}
    assert "deploy refused: the disk is nearly full; nothing was changed" in small.cli("history", "testing").stdout
    assert {tiny.ask(small) for _ in range(100)} == {"version 2"}  # each of them logs two lines

    small.cli("rollback", "testing")
    assert small.status()["release"] == first
    assert tiny.ask(small) == "version 1"
    assert small.differences_soon() == []
    assert "url:/index.html" in small.cli("logs", "testing").stdout

    make_room(small)
    small.cli("deploy", "testing", "--image", third)
    small.cli("env", "apply")
    assert tiny.ask(small) == "version 3"
    small.at_rest()
    small.client.post("/v1/verify-ledger")
    small.stop()
    small.start()
    assert tiny.ask(small) == "version 3"


def test_an_abort_gets_in_on_a_full_disk(small: Machine) -> None:
    release = small.status()["release"]
    small.edit("stelae.toml", "/index.html", "/never-ready")
    small.edit("stelae.toml", 'start = "10s"', 'start = "60s"')
    tiny.version(small, "2")
    running = small.background("deploy", "testing")
    small.until("the rollout is under way", lambda: small.status()["rollout"])
    fill(small, 0)
    assert "cancelled: aborted by root" in small.cli("abort", "testing").stdout
    running.communicate(timeout=30)
    assert running.returncode == 1
    assert small.status()["release"] == release
    assert tiny.ask(small) == "version 1"
    assert small.differences_soon() == []


def flip(path: Path) -> None:
    """Change one bit in the middle of the file."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))


@pytest.fixture
def two() -> Iterator[tuple[Machine, str, Digest]]:
    """A machine that serves version 1, and an image of version 2 with a layer of its own."""
    with Machine(seed=False) as machine:
        tiny.make(machine.start())
        machine.cli("deploy", "testing")
        tiny.version(machine, "2")
        built = machine.json("build")
        machine.client.get("/v1/keys")  # waits until it is signed
        (layer,) = [item["digest"] for item in built["layers"] if item["name"] == "files"]
        yield machine, built["image"], Digest(layer)
        assert "Traceback" not in machine.log.read_text()


def check_refused(machine: Machine, image: str, layer: Digest) -> None:
    before, size = machine.status(), machine.json("status")["record"]["size"]
    done = machine.cli("deploy", "testing", "--image", image, check=False)
    assert done.returncode == 1
    assert layer in done.stderr.splitlines()[0]
    assert "corrupted" in done.stderr.splitlines()[0]
    assert machine.status() == before
    assert machine.json("status")["record"]["size"] == size + 1  # the refusal
    assert f"deploy refused: {done.stderr.splitlines()[0]}" in machine.cli("history", "testing").stdout
    assert tiny.ask(machine) == "version 1"
    assert machine.differences_soon() == []


def test_a_layer_that_was_changed_on_the_disk_is_never_started(two: tuple[Machine, str, Digest]) -> None:
    machine, image, layer = two
    blob = machine.installation.images / "blobs" / "sha256" / layer.removeprefix("sha256:")
    whole = blob.read_bytes()
    flip(blob)
    check_refused(machine, image, layer)
    hint = machine.cli("deploy", "testing", "--image", image, check=False).stderr.splitlines()[-1]
    assert str(blob) in hint  # what to delete, so that a build makes it again
    blob.unlink()
    assert machine.json("build")["image"] == image
    assert blob.read_bytes() == whole
    machine.cli("deploy", "testing", "--image", image)
    assert tiny.ask(machine) == "version 2"


def test_a_file_system_that_was_changed_while_nothing_ran_is_never_mounted(two: tuple[Machine, str, Digest]) -> None:
    machine, image, layer = two
    first = machine.status()["image"]
    machine.cli("deploy", "testing", "--image", image)
    machine.cli("rollback", "testing")
    machine.power_off()
    flip(layer_path(machine.installation.layers, layer))
    machine.start()
    machine.at_rest()
    check_refused(machine, image, layer)

    (own,) = [
        item for item in machine.json("show", first)["layers"] if item != machine.json("show", image)["layers"][0]
    ]
    machine.power_off()
    flip(layer_path(machine.installation.layers, own))
    machine.start()
    machine.until("it was tried", lambda: f"the file system of layer {own} is corrupted" in machine.log.read_text())
    assert machine.status()["state"] == "degraded"
    state = machine.client.get("/v1/state", at=2**52, environment="tiny/testing")
    assert not any(item["ready"] for item in state["environments"][0]["instances"])
    layer_path(machine.installation.layers, own).unlink()  # as the hint says
    machine.until("it works again", lambda: machine.status()["state"] == "steady")
    machine.at_rest()
    assert tiny.ask(machine) == "version 1"
