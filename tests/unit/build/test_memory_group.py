"""Control groups of memory, on folders that look like those of a kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stelae.build.memory_group import MemoryGroup
from stelae.build.upper import usage


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A hierarchy of cgroup v2."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    (tmp_path / "stelae").mkdir()
    (tmp_path / "stelae" / "cgroup.subtree_control").write_text("")
    return tmp_path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """Hierarchies of cgroup v1."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("")
    return tmp_path


def test_a_group_of_version_2(unified: Path) -> None:
    with MemoryGroup("/stelae", 4096, unified) as group:
        assert group.made
        (folder,) = (unified / "stelae").glob("build-*")
        assert folder.name.startswith(f"build-{os.getpid()}-")
        assert [(folder / f"memory.{name}").read_text() for name in ("max", "oom.group", "swap.max")] == [
            "4096", "1", "0"
        ]  # fmt: skip
        assert (unified / "cgroup.subtree_control").read_text() == "+memory"
        assert (unified / "stelae" / "cgroup.subtree_control").read_text() == "+memory"
        assert group.add(7)
        assert (folder / "cgroup.procs").read_text() == "7"
        assert not group.exceeded()
        (folder / "memory.events").write_text("low 0\noom 3\noom_kill 0\n")
        assert not group.exceeded()
        (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
        assert group.exceeded()
        for file in folder.iterdir():
            file.unlink()
    assert list((unified / "stelae").glob("build-*")) == []


def test_a_group_of_version_1(first: Path) -> None:
    with MemoryGroup("/stelae", 4096, first) as group:
        (folder,) = (first / "memory" / "stelae").glob("build-*")
        assert (folder / "memory.limit_in_bytes").read_text() == "4096"
        (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
        assert group.exceeded()
        for file in folder.iterdir():
            file.unlink()
    assert list((first / "memory" / "stelae").iterdir()) == []


def test_on_version_1_a_thread_joins_and_what_it_starts_is_in(first: Path) -> None:
    with MemoryGroup("/stelae", 4096, first) as group:
        (folder,) = (first / "memory" / "stelae").glob("build-*")
        group.join()
        assert (folder / "tasks").read_text() == "0"
        assert group.add(7)
        assert not (folder / "cgroup.procs").exists()
        for file in folder.iterdir():
            file.unlink()


def test_on_version_2_no_thread_joins(unified: Path) -> None:
    with MemoryGroup("/stelae", 4096, unified) as group:
        (folder,) = (unified / "stelae").glob("build-*")
        group.join()
        assert group.add(7)
        assert (folder / "cgroup.procs").read_text() == "7"
        for file in folder.iterdir():
            file.unlink()


@pytest.mark.parametrize("parent", ["", "/", "/stelae"])
def test_where_there_is_no_controller_none_is_made(tmp_path: Path, parent: str) -> None:
    with MemoryGroup(parent, 4096, tmp_path) as group:
        assert not group.made
        assert not group.add(1)
        assert not group.exceeded()
    assert list(tmp_path.iterdir()) == []


def test_groups_of_builders_that_are_no_more_are_removed(first: Path) -> None:
    top = first / "memory" / "stelae"
    for name in ("build-999999999-0", f"build-{os.getpid()}-77", "instances"):
        (top / name).mkdir(parents=True)
    with MemoryGroup("/stelae", 4096, first) as group:
        assert group.made
        (folder,) = (path for path in top.glob(f"build-{os.getpid()}-*") if path.name != f"build-{os.getpid()}-77")
        for file in folder.iterdir():
            file.unlink()
    assert sorted(path.name for path in top.iterdir()) == [f"build-{os.getpid()}-77", "instances"]


def test_the_usage_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a" / "x", tmp_path / "y")
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    found = usage(tmp_path)
    assert 100_000 <= found.total < 200_000
    assert found.longest == 1 << 30
    assert usage(tmp_path / "gone").total == 0
