"""Drift of files, mounts and settings on real parts: attackers, each found in one sweep, and benign programs."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.units import MIB
from stelae.images.loop import loop_device
from stelae.images.roots import mount_erofs
from stelae.platforms.local import runtime
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.inspect import layer_watch
from stelae.platforms.local.inspect.reading import Reading
from stelae.system.fanotify import WriteNotice, Written
from stelae.system.mount import MNT_DETACH, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, mount, unmount
from tests.real.busybox import ENVIRONMENT
from tests.real.drift_ground import DATA, Ground, group_of, idle, inside, own_ground

pytestmark = [pytest.mark.real, pytest.mark.anyio]

MS_REMOUNT = 32


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
    await ground.launch("web-2", replace(idle(), cpu=500, memory=33_333_333))
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


async def test_a_limit_that_was_raised_is_seen(ground: Ground) -> None:
    await ground.launch()
    await ground.launch("web-2")
    await ground.clean()
    (group_of(ground.pid(), "pids") / "pids.max").write_text("max")
    found = await ground.finds(Drift.SETTINGS, "the limit pids.max of its control group was changed")
    assert found.evidence == ("was 64", "is max")


async def test_a_process_that_was_moved_out_of_its_group_is_seen(ground: Ground) -> None:
    await ground.launch()
    await ground.launch("web-2")
    await ground.clean()
    group = group_of(ground.pid(), "memory")
    (group.parent.parent.parent / "cgroup.procs").write_text(str(ground.pid()))
    found = [(item.kind, item.instance) for item in (await ground.inspect()).findings if "moved" in item.what]
    assert found == [(Drift.SETTINGS, "web-1")]


async def test_what_a_program_does_to_itself_is_no_drift(ground: Ground) -> None:
    script = "ulimit -Hn 100; ulimit -Sn 50; cd /data; echo 900 > /proc/self/oom_score_adj; export GREETING=bye"
    name = "printf '\\377\\013Uid:0' > /proc/self/comm"  # no text in any encoding
    await ground.launch("web-1", idle(f'{script}; exec busybox sh -c "{name}; while :; do sleep 0.05; done"'))
    await named(ground.pid(), "busybox")
    for _ in range(500):
        if Path(f"/proc/{ground.pid()}/comm").read_bytes().startswith(b"\xff\x0b"):
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("it did not name itself so")
    await ground.clean()


def _overwrite(file: Path, at: int = 0, data: bytes = b"evil") -> None:
    """Write into *file* as an attacker on the machine does, and hide it as well as can be."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_write_to_a_layer_is_found_for_each_instance_on_it_and_the_next_one_has_a_sound_file(
    ground: Ground,
) -> None:
    await ground.launch()
    await ground.launch("web-2")
    await ground.clean()
    file = ground.layer_file(ground.app)
    _overwrite(file, file.stat().st_size // 2)
    found = (await ground.inspect()).findings
    what = f"the layer {ground.app[:19]} of its image was changed"
    assert {(item.kind, item.what, item.instance) for item in found} == {
        (Drift.LAYER, what, "web-1"), (Drift.LAYER, what, "web-2"),
    }  # fmt: skip
    evidence = " ".join(found[0].evidence)
    assert str(file) in evidence
    assert f"written by process {os.getpid()}, user 0, " in evidence
    await ground.launch("web-3")
    assert {item.instance for item in (await ground.inspect()).findings} == {"web-1", "web-2"}
    assert Path(f"/proc/{ground.pid('web-3')}/root/app/program").read_bytes() == DATA


async def test_a_write_that_was_undone_is_a_difference_still(ground: Ground) -> None:
    await ground.launch()
    await ground.clean()
    file = ground.layer_file(ground.base)
    _overwrite(file, 5000, file.read_bytes()[5000:5004])
    found = await ground.finds(Drift.LAYER, f"the layer {ground.base[:19]} of its image was written to")
    assert "written by process" in found.evidence[-1]


async def test_without_fanotify_a_write_is_found_all_the_same(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(WriteNotice, "__init__", refused)
    await ground.launch()
    await ground.clean()
    _overwrite(ground.layer_file(ground.app))
    found = await ground.finds(Drift.LAYER, f"the layer {ground.app[:19]} of its image was changed")
    assert "written by" not in " ".join(found.evidence)


async def test_a_write_through_a_mapping_is_found(ground: Ground) -> None:
    await ground.launch()
    await ground.clean()
    with ground.layer_file(ground.app).open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        mapping[2000:2004] = b"evil"
        await ground.finds(Drift.LAYER, f"the layer {ground.app[:19]} of its image was changed")


async def test_a_layer_that_was_replaced_is_found(ground: Ground) -> None:
    await ground.launch()
    await ground.clean()
    file = ground.layer_file(ground.app)
    copy = file.with_name("copy")
    shutil.copy2(file, copy)
    copy.replace(file)
    await ground.finds(Drift.LAYER, f"the file of the layer {ground.app[:19]} of its image was deleted or replaced")
    await ground.launch("web-2")
    assert {item.instance for item in (await ground.inspect()).findings} == {"web-1"}


async def test_a_layer_that_was_deleted_is_made_again_for_the_next_instance(ground: Ground) -> None:
    await ground.launch()
    await ground.clean()
    ground.layer_file(ground.base).unlink()
    await ground.finds(Drift.LAYER, f"the file of the layer {ground.base[:19]} of its image was deleted or replaced")
    await ground.launch("web-2")
    assert {item.instance for item in (await ground.inspect()).findings} == {"web-1"}


async def test_what_is_mounted_over_a_layer_is_found(ground: Ground) -> None:
    await ground.launch()
    await ground.clean()
    point = ground.roots.layers_of(ground.image)[1].point
    mount_erofs(ground.layer_file(ground.base), point)
    found = await ground.finds(
        Drift.LAYER, f"the layer {ground.app[:19]} of its image is mounted from something else"
    )
    assert len(found.evidence) == 2
    unmount(point)
    await ground.clean()


async def test_what_others_may_do_with_a_layer_is_no_drift(ground: Ground) -> None:
    """Reading it, a backup that puts its times back, a hard link, another user of the image, and a new controller."""
    await ground.launch()
    await ground.clean()
    file = ground.layer_file(ground.app)
    before = file.stat()
    file.read_bytes()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    await ground.clean()
    file.with_name("backup").hardlink_to(file)
    await ground.clean()
    file.with_name("backup").unlink()
    ground.roots.prepare(ground.image)
    await ground.launch("web-2")
    await ground.clean()
    another = ground.another()
    found = await ground.inspect(engine=another, thorough=True)
    assert (found.findings, found.missed) == ((), {})
    _overwrite(file)
    assert len((await ground.inspect(engine=another)).findings) == 2
    await another.close()


async def test_a_write_raises_the_alarm_at_once(ground: Ground) -> None:
    told: list[str] = []
    ground.engine.alarm(told.append)
    await ground.launch()
    await ground.clean()
    assert told == []
    began = time.monotonic()
    _overwrite(ground.layer_file(ground.app))
    while not told:
        assert time.monotonic() < began + 2
        await asyncio.sleep(0.005)
    assert set(told) == {ENVIRONMENT}
    assert len((await ground.inspect()).findings) == 1


@contextmanager
def own_disk(folder: Path, at: Path) -> Iterator[Path]:
    """Mount a file system of its own at *at*; yield the file that is its disk."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(24 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True, capture_output=True)
    at.mkdir(parents=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(at)], check=True, capture_output=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False, capture_output=True)  # perhaps it is gone


@pytest.mark.parametrize("by", ["guard", "thorough"])
async def test_bytes_that_changed_below_the_file_system_are_found_by_reading(tmp_path: Path, by: str) -> None:
    """As of a disk that rots, or by somebody who writes to the device itself: nothing of the file tells of it."""
    folder = tmp_path / "ground"
    with own_disk(tmp_path, folder / "state" / "layers") as disk, own_ground(folder) as ground:
        await ground.launch()
        await ground.clean()
        os.sync()
        place = disk.read_bytes().find(DATA[:8192])
        with disk.open("r+b") as file:
            file.seek(place + 5000)
            file.write(b"evil")
        await ground.clean()
        if by == "guard":
            told: list[str] = []
            ground.engine.alarm(told.append)
            began = time.monotonic()
            while not told:
                assert time.monotonic() < began + 5
                await asyncio.sleep(0.01)
        found = (await ground.inspect(thorough=by == "thorough")).findings
        assert [item.what for item in found] == [f"the layer {ground.app[:19]} of its image was changed"]
        await ground.engine.close()


async def test_a_layer_on_a_loop_device(tmp_path: Path) -> None:
    with own_ground(tmp_path, loop=True) as ground:
        await ground.launch()
        await ground.clean()
        point = ground.roots.layers_of(ground.image)[1].point
        other = tmp_path / "other"
        shutil.copy(ground.layer_file(ground.app), other)
        unmount(point, MNT_DETACH)
        with loop_device(other) as device:
            mount(device, point, "erofs", MS_RDONLY)
        await ground.finds(Drift.LAYER, f"the layer {ground.app[:19]} of its image is mounted from something else")
        unmount(point)
        await ground.clean()
        _overwrite(ground.layer_file(ground.app))
        await ground.finds(Drift.LAYER, f"the layer {ground.app[:19]} of its image was changed")
        await ground.engine.close()


async def test_another_image_with_the_same_layer_gets_a_sound_one_too(ground: Ground) -> None:
    other = ground.add_image((ground.base, ground.layout.blob_path(ground.base).stat().st_size))
    await ground.launch()
    await ground.launch("web-2", image=other)
    await ground.clean()
    _overwrite(ground.layer_file(ground.base), 300_000)
    assert {item.instance for item in (await ground.inspect()).findings} == {"web-1", "web-2"}
    await ground.launch("web-3", image=other)
    await ground.launch("web-4")
    assert {item.instance for item in (await ground.inspect(thorough=True)).findings} == {"web-1", "web-2"}


async def test_a_layer_whose_source_is_corrupted_too_starts_nothing(ground: Ground) -> None:
    await ground.launch()
    await ground.clean()
    _overwrite(ground.layer_file(ground.app))
    _overwrite(ground.layout.blob_path(ground.app), 3000)
    await ground.inspect()
    with pytest.raises(Failed, match=ground.app[:30]):
        await ground.launch("web-2")


EVIL = """#!/bin/sh
# A runtime in between: it launches another bundle than it was told to, and puts the one that it was told to back.
case " $* " in *" create "*)
  for word in "$@"; do [ "$last" = --bundle ] && bundle=$word; last=$word; done
  cp "$bundle/config.json" "$bundle/kept"
  sed -i "$EVIL" "$bundle/config.json"
  RUNTIME "$@"; status=$?
  cat "$bundle/kept" > "$bundle/config.json"; rm "$bundle/kept"
  exit $status;;
esac
exec RUNTIME "$@"
"""


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ("s/GREETING=hello/GREETING=bye/", "other environment variables than its release's: GREETING"),
        ('s/"noNewPrivileges": true/"noNewPrivileges": false/', "its first process may gain rights (NoNewPrivs)"),
        ('s/"seccomp": {/"ignored": {/', "its first process is without its system call filter"),
        ('s/"gid": 10001/"gid": 0/', "its first process is another user's"),
        ('s/"gid": 10001/"gid": 10001, "additionalGids": [7]/', "its first process is in other groups"),
        ('s/"bounding": \\[\\]/"bounding": ["CAP_CHOWN"]/', "its first process has capabilities"),
        ('s/"noexec", "nodev", "uid/"nodev", "uid/', "the mount at /data was never noexec"),
        ('s/"limit": 64}/"limit": 640}/', "its control group was made with other limits: pids.max"),
    ],
)
async def test_what_was_launched_otherwise_than_it_was_told_is_seen(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str, what: str
) -> None:
    found = shutil.which("runc") or shutil.which("crun")
    if found is None:
        pytest.skip("needs runc or crun")
    evil = tmp_path / "evil"
    evil.write_text(EVIL.replace("RUNTIME", found))
    evil.chmod(0o755)
    monkeypatch.setenv("EVIL", edit)
    monkeypatch.setattr(runtime, "_ENVIRONMENT", {**runtime._ENVIRONMENT, "EVIL": edit})
    ground.engine = LocalEngine(ground.installation, ground.roots, ground.layout.config, runtime=str(evil))
    await ground.launch()
    await named(ground.pid(), "sh")
    kind = Drift.MOUNT if "mount" in what else Drift.SETTINGS
    await ground.finds(kind, what)


class _Lost:
    """A notice of which the kernel lost count."""

    def __init__(self) -> None:
        self.told = [Written(file=None, pid=0)]

    def read(self) -> list[Written]:
        told, self.told = self.told, []
        return told

    def watch(self, file: int) -> None:
        pass

    let_go = watch

    def close(self) -> None:
        pass


async def test_when_the_kernel_loses_count_everything_is_read_and_nothing_is_claimed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = _Lost()
    read: list[Reading] = []
    monkeypatch.setattr(layer_watch, "WriteNotice", lambda: lost)
    whole = Reading.whole

    def counted(reading: Reading) -> str:
        read.append(reading)
        return whole(reading)

    monkeypatch.setattr(Reading, "whole", counted)
    lost.told.clear()
    await ground.launch()
    await ground.clean()
    assert read == []
    lost.told.append(Written(file=None, pid=0))
    await ground.clean()
    assert len(read) == 2
    await ground.clean()
    assert len(read) == 2


class _Secrets:
    def read(self, environment: EnvironmentId, name: str, version: int) -> bytes:
        return b"zorkmid-77"


async def test_an_instance_with_secrets_is_inspected_and_no_value_is_kept_for_it(ground: Ground) -> None:
    ground.engine = LocalEngine(ground.installation, ground.roots, ground.layout.config, secrets=_Secrets())
    place = await ground.launch(secrets=("PASSWORD", "KEY"))
    for _ in range(2):
        await ground.clean()
    for path in place.folder.iterdir():
        assert not path.is_file() or b"zorkmid" not in path.read_bytes(), path
    assert b"PASSWORD=zorkmid-77" in Path(f"/proc/{ground.pid()}/environ").read_bytes()
    inside(ground.pid(), lambda: mount("tmpfs", Path("/run/secrets"), "tmpfs", MS_NOSUID))
    found = await ground.finds(Drift.MOUNT, "something is mounted at /run/secrets that was not")
    assert "zorkmid" not in str(found)
