"""What is handed over is what a machine can boot and a registry has: by the whole product, with qemu-img and zstd."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real import tiny
from tests.real.boot_seed import DISK, lend_boot
from tests.real.machine import Machine
from tests.real.registries import running

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("docker-registry") is None, reason="needs root and docker-registry"
    ),
]


def test_an_image_and_its_disk_are_handed_over_and_are_what_was_built(tmp_path: Path) -> None:
    with running(tmp_path / "registry") as registry, Machine(seed=False) as machine:
        lend_boot(machine.installation.state)
        tiny.make(machine.start())
        spec = machine.app / "stelae.toml"
        plain = machine.json("build")["image"]
        machine.json("push", plain, f"{registry.address}/tiny:1", "--insecure")
        before = machine.json("export", plain)
        assert (before["disk"], before["places"][0]["name"]) == (None, f"{registry.address}/tiny@{plain}")

        spec.write_text(spec.read_text() + DISK)
        machine.commit("a disk")
        made = machine.json("build", "--artifact", "disk")
        assert made["image"] == plain, "[disk] is no input of the image"
        raw, variables = tmp_path / "tiny.raw", tmp_path / "stelae.auto.tfvars.json"
        told = machine.json("export", plain, "--disk", raw, "--terraform", variables)
        disk = told["disk"]
        assert disk["digest"] == made["disk"]["disk"]
        assert disk["file"] == {"path": str(raw), "format": "raw", "digest": disk["raw"]}
        with raw.open("rb") as file:
            assert f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == disk["raw"]
        subprocess.run(["sfdisk", "--verify", raw], check=True, capture_output=True)
        value = json.loads(variables.read_text())["stelae"]
        assert (value["disk"]["raw"], value["disk"]["file"]) == (disk["raw"], str(raw))
        assert value["provenance"]["commit"] == machine.git("rev-parse", "HEAD")


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
def test_a_qcow2_is_whole_and_of_the_same_content(tmp_path: Path) -> None:
    with Machine(seed=False) as machine:
        lend_boot(machine.installation.state)
        tiny.make(machine.start())
        spec = machine.app / "stelae.toml"
        spec.write_text(spec.read_text() + DISK)
        machine.commit("a disk")
        made = machine.json("build", "--artifact", "disk")
        file, back = tmp_path / "tiny.qcow2", tmp_path / "back.raw"
        machine.json("export", made["disk"]["disk"], "--disk", file)
        subprocess.run(["qemu-img", "check", "-q", file], check=True)
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, back], check=True)
        with back.open("rb") as opened:
            assert f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}" == made["disk"]["raw"]
