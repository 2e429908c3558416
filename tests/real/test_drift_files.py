"""Drift of files, mounts and settings on real parts: attackers, each found in one sweep, and benign programs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from stelae.domain.drift import Drift
from stelae.system.mount import MNT_DETACH, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, unmount
from tests.real.drift_ground import Ground, idle, inside, own_ground

pytestmark = [pytest.mark.real, pytest.mark.anyio]

MS_REMOUNT = 32


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    with own_ground(tmp_path) as made:
        try:
            yield made
        finally:
            await made.engine.close()


async def named(pid: int, name: str) -> None:
    """Wait until the program of *pid* is *name*."""
    for _ in range(500):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(name.encode()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pid} did not become {name}")


async def test_what_was_launched_and_left_alone_has_not_drifted(ground: Ground) -> None:
    await ground.launch()
    await ground.launch("web-2")
    for _ in range(3):
        await ground.clean()


def _over_a_file() -> None:
    mount("/etc/hosts", Path("/app/program"), "none", MS_BIND)


def _tmpfs_over_a_folder() -> None:
    mount("tmpfs", Path("/app"), "tmpfs", MS_NOSUID)


def _root_made_writable() -> None:
    mount("none", Path("/"), "none", MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV)


def _programs_in_memory() -> None:
    mount("none", Path("/data"), "none", MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV)


def _larger() -> None:
    mount("none", Path("/data"), "none", MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=8m")


def _hosts_gone() -> None:
    unmount(Path("/etc/hosts"), MNT_DETACH)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (_over_a_file, "something is mounted at /app/program that was not"),
        (_tmpfs_over_a_folder, "something is mounted at /app that was not"),
        (_root_made_writable, "the mount at / was made writable"),
        (_programs_in_memory, "the mount at /data was changed"),
        (_larger, "the mount at /data was changed"),
        (_hosts_gone, "the mount at /etc/hosts is gone"),
    ],
)
async def test_a_mount_made_from_outside_is_seen(ground: Ground, act: Callable[[], None], what: str) -> None:
    await ground.launch()
    await ground.launch("web-2")
    await ground.clean()
    inside(ground.pid(), act)
    found = await ground.finds(Drift.MOUNT, what)
    assert found.evidence


async def test_the_content_of_a_file_that_stelae_mounts_is_seen(ground: Ground) -> None:
    place = await ground.launch()
    await ground.clean()
    hosts, before = place.folder / "hosts", (place.folder / "hosts").stat()
    text = hosts.read_text()
    hosts.write_text(text.replace("127.0.0.1", "127.0.0.9"))
    os.utime(hosts, ns=(before.st_atime_ns, before.st_mtime_ns))
    await ground.finds(Drift.MOUNT, "the content of /etc/hosts was changed")
    hosts.write_text(text)
    await ground.clean()


async def test_a_bundle_that_was_changed_is_seen(ground: Ground) -> None:
    place = await ground.launch()
    await ground.clean()
    bundle = place.folder / "config.json"
    bundle.write_text(bundle.read_text().replace('"noNewPrivileges": true', '"noNewPrivileges": false'))
    await ground.finds(Drift.SETTINGS, "its bundle was changed after the launch")
    place.launched.unlink()  # known from before
    await ground.finds(Drift.SETTINGS, "its bundle was changed after the launch")


def _group(pid: int, controller: str) -> Path:
    """Return the control group of *pid* with the files of *controller*."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names == "" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path(f"/sys/fs/cgroup{path}")
        if controller in names.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}")
    raise AssertionError(f"no control group of {controller}")


async def test_a_limit_that_was_raised_is_seen(ground: Ground) -> None:
    await ground.launch()
    await ground.launch("web-2")
    await ground.clean()
    (_group(ground.pid(), "pids") / "pids.max").write_text("max")
    found = await ground.finds(Drift.SETTINGS, "the limit pids.max of its control group was changed")
    assert found.evidence == ("was 64", "is max")


async def test_a_process_that_was_moved_out_of_its_group_is_seen(ground: Ground) -> None:
    await ground.launch()
    await ground.launch("web-2")
    await ground.clean()
    group = _group(ground.pid(), "memory")
    (group.parent.parent.parent / "cgroup.procs").write_text(str(ground.pid()))
    found = [(item.kind, item.instance) for item in (await ground.inspect()).findings if "moved" in item.what]
    assert found == [(Drift.SETTINGS, "web-1")]


async def test_what_a_program_does_to_itself_is_no_drift(ground: Ground) -> None:
    script = "ulimit -Hn 100; ulimit -Sn 50; cd /data; echo 900 > /proc/self/oom_score_adj; export GREETING=bye"
    await ground.launch("web-1", idle(f"{script}; exec busybox sh -c 'while :; do sleep 0.05; done'"))
    await named(ground.pid(), "busybox")
    await ground.clean()
