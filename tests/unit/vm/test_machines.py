"""The bundle of a machine, and QEMU's command line in it."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from stelae.core.memory import of_guest, of_machine
from stelae.domain.allocation import InstanceId
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed
from stelae.domain.run import Debug
from stelae.domain.units import MIB
from stelae.images.disks import DiskFiles
from stelae.platforms.local.form import Host
from stelae.platforms.local.place import Place, place_of
from stelae.platforms.port import LaunchSpec
from stelae.platforms.vm import machines
from stelae.platforms.vm.bundle import TELLS, USER
from stelae.platforms.vm.command import Machine, command_of, processors, qemu
from stelae.platforms.vm.engine import VmEngine
from stelae.platforms.vm.machines import Machines
from stelae.system.installation import Installation
from tests.unit.local.test_bundle import ENVIRONMENT, WEB, spec

ADDRESS = IPv4Address("10.9.0.2")
DISK = digest_of(b"disk")
IMAGE: Mapping[str, Any] = {"config": {"User": "7:8", "Env": ["FROM_IMAGE=1"], "WorkingDir": "/app"}}


class Disks:
    """A source of one disk."""

    def __init__(self, folder: Path) -> None:
        disk = Disk(
            digest=DISK, image=digest_of(b"i"), raw=digest_of(b"raw"), size=3, root_hash="0" * 64,
            uki=digest_of(b"uki"), kernel="6.1",
        )  # fmt: skip
        files = [folder / name for name in ("raw", "kernel", "initrd")]
        for file in files:
            file.write_text(file.name)
        self.files = DiskFiles(
            disk=disk, raw=files[0], kernel=files[1], initrd=files[2], kernel_digest=digest_of(b"kernel"),
            initrd_digest=digest_of(b"initrd"), cmdline="roothash=00 ro",
        )  # fmt: skip

    def open(self, digest: Digest) -> DiskFiles:
        assert digest == DISK
        return self.files

    def distrust(self, file: tuple[int, int]) -> None:
        raise AssertionError(file)


def machine_spec(**changes: Any) -> LaunchSpec:
    asked = spec(replace(WEB, **changes))
    return replace(asked, release=replace(asked.release, disk=DISK))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(machines, "accelerator", lambda: "tcg")
    monkeypatch.setattr("os.chown", lambda *_: None)
    found = place_of(Installation(state=tmp_path, run=tmp_path / "run"), ENVIRONMENT, InstanceId("web-1"))
    found.private.mkdir(parents=True)
    return found


def write(place: Place, asked: LaunchSpec, values: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    host = Host(
        seccomp={}, cgroup_path="/st/instances/c", unified=True, limits_swap=True, gateway=IPv4Address("10.9.0.1")
    )
    form = Machines(place.installation, Disks(place.installation.state), lambda _: IMAGE)
    form.write(place, asked, ADDRESS, values or {}, host)
    config: dict[str, Any] = json.loads((place.folder / "config.json").read_text())
    return config


def test_qemu_has_no_right_and_sees_nothing_of_the_host(place: Place) -> None:
    config = write(place, machine_spec())
    process = config["process"]
    assert process["user"] == {"uid": USER, "gid": USER}
    assert process["noNewPrivileges"] is True
    assert all(item == [] for item in process["capabilities"].values())
    assert process["env"] == ["PATH=/usr/bin:/bin"]
    assert config["root"]["readonly"] is True
    mounts = {entry["destination"]: entry for entry in config["mounts"]}
    assert set(mounts) == {
        "/proc", "/dev", "/usr", "/run", "/image/disk", "/image/kernel", "/image/initrd", "/image/config"
    }  # fmt: skip
    for point, entry in mounts.items():
        assert "nosuid" in entry["options"], point
        if entry["type"] == "bind":
            assert {"ro", "nodev"} <= set(entry["options"]), point
    devices = [entry["path"] for entry in config["linux"]["devices"]]
    assert devices == ["/dev/net/tun"]
    assert config["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    names = {entry["type"] for entry in config["linux"]["namespaces"]}
    assert {"pid", "mount", "ipc", "uts", "network", "cgroup"} <= names


def test_it_may_use_what_its_process_may_and_what_a_machine_needs_beside(place: Place) -> None:
    config = write(place, machine_spec(memory=64 * MIB, cpu=1500))
    assert config["linux"]["resources"]["memory"]["limit"] == of_machine(64 * MIB) > of_guest(64 * MIB) > 64 * MIB
    words = config["process"]["args"]
    assert words[words.index("-m") + 1] == f"{of_guest(64 * MIB) // MIB}M"
    assert words[words.index("-smp") + 1] == "2"
    assert [processors(replace(WEB, cpu=cpu)) for cpu in (0, 1, 1000, 1001)] == [1, 1, 1, 2]


def test_settings_and_secrets_are_on_the_config_disk_alone(place: Place) -> None:
    asked = machine_spec()
    release = replace(asked.release, settings={"GREETING": "hello-there"}, secrets={"KEY": 1}, secret_env=("KEY",))
    config = write(place, replace(asked, release=release), {"KEY": b"the-secret"})
    text = json.dumps(config)
    assert "the-secret" not in text
    assert "hello-there" not in text
    file = place.private / "config"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    content = file.read_bytes()
    for word in (
        b"env/KEY",
        b"secrets/KEY",
        b"the-secret",
        b"hello-there",
        b"env/FROM_IMAGE",
        b"10.9.0.2/20",
        b"7:8",
    ):
        assert word in content, word
    assert config["annotations"][TELLS] == hashlib.sha256(content).hexdigest()


def test_nothing_of_qemu_is_on_by_default_and_each_device_is_named() -> None:
    machine = Machine(
        name="shop.testing.web-1", process=WEB, address=ADDRESS, cmdline="roothash=00 ro", accelerator="tcg"
    )
    words = qemu(machine)
    for flag in ("-nodefaults", "-no-user-config", "-no-reboot"):
        assert flag in words
    assert words[words.index("-sandbox") + 1].startswith("on,")
    assert words[words.index("-append") + 1] == "roothash=00 ro"
    devices = [words[number + 1] for number, word in enumerate(words) if word == "-device"]
    assert all(",id=" in device for device in devices)
    assert any("mac=02:5e:0a:09:00:02" in device for device in devices)
    files = [words[number + 1] for number, word in enumerate(words) if word == "-blockdev"]
    assert all("read-only=on" in file for file in files)
    native = qemu(replace(machine, accelerator="kvm"))
    assert native[native.index("-accel") + 1] == "kvm"
    assert command_of(machine)[:2] == ("/bin/sh", "-c")


def test_a_debug_session_and_a_release_without_a_disk_are_refused(place: Place) -> None:
    asked = machine_spec()
    with pytest.raises(Failed, match="no debug sessions"):
        write(place, replace(asked, debug=Debug(instance=InstanceId("web-1"), process="web")))
    with pytest.raises(Failed, match="no disk"):
        write(place, spec())


@pytest.mark.anyio
async def test_the_engine_refuses_what_makes_no_sense_of_a_machine() -> None:
    engine = VmEngine(None)  # type: ignore[arg-type]  # it is not even asked
    asked = machine_spec()
    for refused in (
        engine.prepare(spec().release), engine.launch(spec()), engine.shell(asked.release, tools=False),
        engine.attach(ENVIRONMENT, InstanceId("web-1")),
        engine.launch(replace(asked, debug=Debug(instance=InstanceId("web-1"), process="web"))),
    ):  # fmt: skip
        with pytest.raises(Failed):
            await refused
