from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.process import Health, Probe, Process, Tmpfs
from stelae.domain.release import Release
from stelae.domain.units import MIB
from stelae.platforms.local.bundle import environment_of, resolvers, write_bundle
from stelae.platforms.local.form import Host
from stelae.platforms.local.place import place_of
from stelae.platforms.port import LaunchSpec
from stelae.platforms.user import user_of
from stelae.system.installation import Installation

ENVIRONMENT = EnvironmentId("shop/testing")
WEB = Process(
    name="web", command=("serve", "--all"), health=Health(probe=Probe.RUNNING), port=8000, memory=64 * MIB, cpu=500,
    pids=9, tmpfs=(Tmpfs(path="/tmp", size=MIB),),
)  # fmt: skip


def spec(process: Process = WEB, settings: dict[str, str] | None = None) -> LaunchSpec:
    release = Release(app="shop", environment="testing", image=digest_of(b"i"), settings=settings or {})
    return LaunchSpec(environment=ENVIRONMENT, instance=InstanceId("web-1"), release=release, process=process)


def write(tmp_path: Path, image: dict[str, Any], process: Process = WEB, *, unified: bool = True) -> dict[str, Any]:
    root = tmp_path / "root"
    for name in ("proc", "sys", "dev", "tmp", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("resolv.conf", "hosts", "hostname"):
        (root / "etc" / name).touch()
    place = place_of(Installation(state=tmp_path, run=tmp_path / "run"), ENVIRONMENT, InstanceId("web-1"))
    place.folder.mkdir(parents=True, exist_ok=True)
    host = Host(
        seccomp={"defaultAction": "X"}, cgroup_path="/st/instances/c", unified=unified, limits_swap=True,
        gateway=IPv4Address("10.9.0.1"),
    )  # fmt: skip
    write_bundle(place, spec(process), root, image, IPv4Address("10.9.0.2"), host)
    config: dict[str, Any] = json.loads((place.folder / "config.json").read_text())
    return config


def test_the_config_gives_nothing_away(tmp_path: Path) -> None:
    config = write(tmp_path, {"config": {"User": "7:8", "WorkingDir": "/app"}})
    assert config["root"]["readonly"] is True
    process = config["process"]
    assert (process["user"], process["cwd"], process["args"]) == ({"uid": 7, "gid": 8}, "/app", ["serve", "--all"])
    assert process["noNewPrivileges"] is True
    assert all(capabilities == [] for capabilities in process["capabilities"].values())
    assert len(process["capabilities"]) == 5
    assert process["oomScoreAdj"] >= 0
    assert "rlimits" not in process
    linux = config["linux"]
    assert linux["seccomp"] == {"defaultAction": "X"}
    assert {item["type"] for item in linux["namespaces"]} == {"pid", "mount", "ipc", "uts", "cgroup", "network"}
    assert linux["resources"]["memory"] == {"limit": 64 * MIB, "swap": 64 * MIB}
    assert linux["resources"]["cpu"] == {"quota": 50_000, "period": 100_000}
    assert linux["resources"]["pids"] == {"limit": 9}
    assert linux["cgroupsPath"] == "/st/instances/c"
    for mount in config["mounts"]:
        assert {"nosuid", "noexec"} <= set(mount["options"]), mount
        writable_memory = mount["type"] == "tmpfs"
        assert not writable_memory or any(option.startswith("size=") for option in mount["options"]), mount
        assert mount["type"] != "bind" or "ro" in mount["options"]


def test_no_cgroup_mount_on_v1_and_no_cpu_limit_when_none_is_asked_for(tmp_path: Path) -> None:
    process = Process(name="web", command=("x",), health=Health(probe=Probe.RUNNING))
    config = write(tmp_path, {}, process, unified=False)
    assert "/sys/fs/cgroup" not in [mount["destination"] for mount in config["mounts"]]
    assert "cgroup" not in [item["type"] for item in config["linux"]["namespaces"]]
    assert "cpu" not in config["linux"]["resources"]
    assert config["process"]["user"] == {"uid": 10001, "gid": 10001}


def test_a_tmpfs_of_its_own_replaces_the_small_shared_memory(tmp_path: Path) -> None:
    process = Process(
        name="web", command=("x",), health=Health(probe=Probe.RUNNING), tmpfs=(Tmpfs(path="/dev/shm", size=MIB),)
    )
    mounts = [mount for mount in write(tmp_path, {}, process)["mounts"] if mount["destination"] == "/dev/shm"]
    assert [f"size={MIB}" in mount["options"] for mount in mounts] == [True]


def test_a_missing_mount_point_is_told_before_anything_starts(tmp_path: Path) -> None:
    process = Process(
        name="web", command=("x",), health=Health(probe=Probe.RUNNING), tmpfs=(Tmpfs(path="/var/cache", size=MIB),)
    )
    with pytest.raises(Failed, match="no /var/cache to mount on"):
        write(tmp_path, {}, process)


def test_a_symbolic_link_in_the_image_is_not_followed_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "root" / "var").mkdir(parents=True)
    (tmp_path / "root" / "var" / "run").symlink_to("/nowhere/on/the/host")
    process = Process(
        name="web", command=("x",), health=Health(probe=Probe.RUNNING), tmpfs=(Tmpfs(path="/var/run", size=MIB),)
    )
    assert write(tmp_path, {}, process)


def test_the_hosts_file_names_the_instance_and_the_host(tmp_path: Path) -> None:
    write(tmp_path, {})
    folder = tmp_path / "run/instances/shop/testing/web-1"
    assert "10.9.0.2 web-1\n10.9.0.1 host.stelae.internal\n" in (folder / "hosts").read_text()
    assert (folder / "hosts").stat().st_mode & 0o777 == 0o644


def test_settings_override_the_image_and_cannot_override_what_stelae_says() -> None:
    settings = {"MODE": "test", "STELAE_RELEASE": "forged", "PORT": "1"}
    made = spec(settings=settings)
    env = dict(item.split("=", 1) for item in environment_of(made, ["MODE=image", "PATH=/opt", "A=b=c"]))
    assert (env["MODE"], env["PATH"], env["A"], env["PORT"]) == ("test", "/opt", "b=c", "8000")
    assert (env["STELAE_RELEASE"], env["STELAE_IMAGE"]) == (made.release.id, made.release.image)
    assert (env["STELAE_APP"], env["STELAE_ENVIRONMENT"], env["STELAE_PROCESS"]) == ("shop", "testing", "web")


@pytest.mark.parametrize(("text", "ids"), [("", (10001, 10001)), ("5", (5, 5)), ("5:6", (5, 6)), ("0:0", (0, 0))])
def test_users_are_numbers(text: str, ids: tuple[int, int]) -> None:
    assert user_of(text) == ids


@pytest.mark.parametrize("text", ["app", "5:app", "-1", "5:", "5:6:7", "5\n"])
def test_a_user_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Failed):
        user_of(text)


def test_resolvers_on_a_loopback_address_are_not_passed_on(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\nsearch lan\n")
    assert resolvers(stub, real) == ""
    real.write_text("# made by resolved\nnameserver 192.0.2.1\nnameserver ::1\nsearch lan\n")
    assert resolvers(stub, real) == "search lan\nnameserver 192.0.2.1\n"
    stub.write_text("nameserver 192.0.2.9\nnameserver fe80::1%eth0\n")
    assert resolvers(stub, real) == "nameserver 192.0.2.9\nnameserver fe80::1%eth0\n"
    stub.write_text("nameserver\nnameserver not-an-address\n\n")
    assert resolvers(stub, tmp_path / "none") == ""
