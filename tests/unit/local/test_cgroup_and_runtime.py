from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.domain.errors import Unreachable
from stelae.platforms.local import runtime
from stelae.platforms.local.cgroup import Cgroups

Made = Callable[[Path], Path]


def fake_v2(folder: Path) -> Path:
    (folder / "cgroup.controllers").write_text("memory pids")
    (folder / "st" / "instances" / "a.b.c").mkdir(parents=True)
    return folder


def fake_v1(folder: Path) -> Path:
    for name in ("memory", "pids", "systemd"):
        (folder / name / "st" / "instances" / "a.b.c").mkdir(parents=True)
    (folder / "cpu").symlink_to("memory")
    return folder


def test_v2_counts_what_the_kernel_ended(tmp_path: Path) -> None:
    cgroups = Cgroups("/st", fake_v2(tmp_path))
    assert cgroups.unified
    assert cgroups.limits_swap
    assert cgroups.oom_kills("a.b.c") == 0
    (tmp_path / "st/instances/a.b.c/memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert cgroups.oom_kills("a.b.c") == 2


def test_v1_counts_what_the_kernel_ended(tmp_path: Path) -> None:
    cgroups = Cgroups("/st", fake_v1(tmp_path))
    assert not cgroups.unified
    assert not cgroups.limits_swap
    (tmp_path / "memory/st/instances/a.b.c/memory.oom_control").write_text("oom_kill_disable 0\noom_kill 1\n")
    assert cgroups.oom_kills("a.b.c") == 1
    assert cgroups.oom_kills("none") == 0


@pytest.mark.parametrize(
    ("make", "where"), [(fake_v2, "st/conmon/x.y.z"), (fake_v1, "systemd/st/conmon/x.y.z")], ids=["v2", "v1"]
)
def test_conmon_gets_a_group_of_its_own_in_one_hierarchy(tmp_path: Path, make: Made, where: str) -> None:
    cgroups = Cgroups("/st", make(tmp_path))
    cgroups.place_conmon("x.y.z", 4242)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("conmon/*")] == [where]
    assert (tmp_path / where / "cgroup.procs").read_text() == "4242"
    assert cgroups.names() == {"a.b.c", "x.y.z"}


@pytest.mark.parametrize("make", [fake_v2, fake_v1])
def test_remove_takes_the_groups_of_one_instance_and_can_be_repeated(tmp_path: Path, make: Made) -> None:
    cgroups = Cgroups("/st", make(tmp_path))
    for path in list(tmp_path.rglob("a.b.c")):
        (path / "nested").mkdir()
    for folder in tmp_path.rglob("instances"):
        (folder / "other").mkdir()
    cgroups.remove("a.b.c")
    cgroups.remove("a.b.c")
    assert cgroups.names() == {"other"}
    cgroups.remove_all()
    cgroups.remove_all()
    assert not list(tmp_path.rglob("st"))


def test_crun_is_taken_where_it_runs_and_runc_where_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: f"/bin/{name}")
    assert runtime.choose_runtime(tmp_path) == "/bin/crun"
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("\n")
    assert runtime.choose_runtime(tmp_path) == "/bin/crun"
    (tmp_path / "unified/cgroup.controllers").write_text("hugetlb\n")
    assert runtime.choose_runtime(tmp_path) == "/bin/runc"


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: "/bin/runc" if name == "runc" else None)
    assert runtime.choose_runtime(tmp_path) == "/bin/runc"
    monkeypatch.setattr(runtime.shutil, "which", lambda _: None)
    with pytest.raises(Unreachable, match="crun is not installed"):
        runtime.choose_runtime(tmp_path)


def test_processor_time_is_in_microseconds_and_unknown_where_it_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    cgroups = Cgroups("/st", fake_v2(tmp_path / "two"))
    assert cgroups.cpu("a.b.c") is None
    file = tmp_path / "two/st/instances/a.b.c/cpu.stat"
    file.write_text("usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n")
    assert cgroups.cpu("a.b.c") == 1_234_567
    file.write_text("nonsense")
    assert cgroups.cpu("a.b.c") is None
    (tmp_path / "one" / "cpu,cpuacct" / "st" / "instances" / "a.b.c").mkdir(parents=True)
    cgroups = Cgroups("/st", fake_v1(tmp_path / "one"))
    assert cgroups.cpu("a.b.c") is None
    (tmp_path / "one/cpu,cpuacct/st/instances/a.b.c/cpuacct.usage").write_text("1234567890\n")
    assert cgroups.cpu("a.b.c") == 1_234_567
    assert Cgroups("/st", fake_v1_without_accounts(tmp_path / "none")).cpu("a.b.c") is None


def fake_v1_without_accounts(folder: Path) -> Path:
    folder.mkdir()
    return fake_v1(folder)
