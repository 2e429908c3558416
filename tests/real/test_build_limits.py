"""The limits of ``run`` lines on real parts: each is hit, holds, and is named with the last lines of output."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stelae.build.builder import Builder
from stelae.build.parts import MOST
from stelae.build.sandbox import BeyondError, Rules, Sandbox, lay_out
from stelae.domain.errors import Failed
from stelae.domain.recipe import Limits
from stelae.domain.units import MIB, SECOND
from stelae.images.tree import Tree, file
from tests.real.building import run_lines, shell
from tests.unit.build.repository import Repository
from tests.unit.build.test_builder import oci_base
from tests.unit.build.workshop import Workshop, spec

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bwrap") is None, reason="needs root and bubblewrap"),
]

GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A base with a shell and what eats memory and disk."""
    return oci_base(
        tmp_path / "base", shell("sh", "dd", "head", "tail", "echo", "true", "sleep", "rm", "cat")
    )  # fmt: skip


@pytest.fixture
def group(workshop: Workshop) -> Iterator[str]:
    """A parent of control groups of the test's own, and a builder that uses it."""
    name = f"/stt{secrets.token_hex(2)}"
    workshop.builder = Builder(
        workshop.layout, workshop.mirror, workshop.cache, workshop.folder / "inputs", group=name
    )  # fmt: skip
    yield name
    left = [path for top in (GROUPS, GROUPS / "memory") for path in (top / name[1:]).glob("build-*")]
    for top in (GROUPS, GROUPS / "memory"):
        with suppress(OSError):
            (top / name[1:]).rmdir()
    assert left == []


def limited(line: str, limits: str, base: str) -> str:
    return spec(f"{run_lines(line)}\nlimits = {{ {limits} }}", base=base)


EAT = "echo eating; head -c 300000000 /dev/zero | tail > eaten; echo ate"


def test_memory_is_held_by_a_control_group(repository: Repository, workshop: Workshop, base: str, group: str) -> None:
    if not (GROUPS / "memory").exists() and "memory" not in (GROUPS / "cgroup.controllers").read_text():
        pytest.skip("no controller of memory")
    repository.commit({"stelae.toml": limited(EAT, 'memory = "64MiB"', base)})
    with pytest.raises(Failed, match="it needed more than 64MiB of memory: echo eating") as caught:
        workshop.build(repository)
    assert caught.value.details[0] == "eating"
    assert caught.value.hint == "that is image.limits.memory"
    repository.commit({"stelae.toml": limited(EAT, 'memory = "1GiB"', base)})
    assert workshop.build(repository).created


def test_a_limit_that_is_not_the_recipes_names_no_key_of_it(tmp_path: Path) -> None:
    lower = lay_out(shell("sh"), tmp_path / "lower")
    for configured, hint in ((True, "that is image.limits.time"), (False, "")):
        place = tmp_path / f"place{configured}"
        place.mkdir()
        rules = Rules(limits=Limits(time=SECOND), configured=configured, where="image.packages")
        with pytest.raises(BeyondError) as caught:
            Sandbox([lower], place, rules).run("while :; do :; done", "/", print)
        assert (caught.value.said, caught.value.hint) == ("it did not end within 1s", hint)


def test_as_many_layers_as_parts_are_used_lie_over_each_other(tmp_path: Path) -> None:
    """Their names together are less than the page that mount(2) takes, wherever they are."""
    top = tmp_path / ("a" * 200)
    top.mkdir()
    lowers = [lay_out(shell("sh"), top / "0")]
    for number in range(1, MOST):
        tree = Tree()
        tree.add(f"file{number}".encode(), file(b"", 0o644))
        lowers.append(lay_out(tree, top / str(number)))
    place = tmp_path / "place"
    place.mkdir()
    said: list[str] = []
    Sandbox(lowers, place).run("set -- /file*; echo $#", "/", said.append)
    assert said == [f"run: {MOST - 1}"]


def test_many_processes_share_one_limit_of_memory(
    repository: Repository, workshop: Workshop, base: str, group: str
) -> None:
    eat = "for i in 1 2 3 4; do (head -c 40000000 /dev/zero | tail > /dev/null; sleep 1) & done; wait"
    held = "for i in 1 2 3 4; do (head -c 40000000 /dev/zero; sleep 3) | tail > /dev/null & done; wait"
    repository.commit({"stelae.toml": limited(f"{held}; {eat}", 'memory = "100MiB"', base)})
    with pytest.raises(Failed, match="more than 100MiB of memory"):
        workshop.build(repository)


def test_what_lies_in_tmp_counts_as_memory(repository: Repository, workshop: Workshop, base: str, group: str) -> None:
    repository.commit({"stelae.toml": limited("cat /dev/zero > /tmp/filled || echo held", 'memory = "64MiB"', base)})
    start = time.monotonic()
    with pytest.raises(Failed, match=r"64MiB of memory|ended with status"):
        workshop.build(repository)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/run"])
def test_file_systems_in_memory_have_a_size(
    repository: Repository, workshop: Workshop, base: str, folder: str
) -> None:
    text = limited(f"cat /dev/zero > {folder}/filled", 'memory = "16MiB"', base)
    repository.commit({"stelae.toml": text})
    with pytest.raises(Failed, match="it filled /tmp or /run, which are memory") as caught:
        workshop.build(repository)
    assert "image.limits.memory" in caught.value.hint


def test_without_a_controller_each_process_is_limited(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"stelae.toml": limited(EAT, 'memory = "64MiB"', base)})
    with pytest.raises(Failed, match="it needed more than 64MiB of memory") as caught:
        workshop.build(repository)
    assert any("out of memory" in line for line in caught.value.details)


def test_one_file_that_grows_without_end(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"stelae.toml": limited("echo begun; dd if=/dev/zero of=large bs=1M", 'disk = "32MiB"', base)})
    before = free(workshop.folder)
    with pytest.raises(Failed, match="it wrote more than 32MiB: echo begun") as caught:
        workshop.build(repository)
    assert caught.value.details[0] == "begun"
    assert caught.value.hint == "that is image.limits.disk"
    assert before - free(workshop.folder) < 2048 * MIB


def test_files_without_number(repository: Repository, workshop: Workshop, base: str) -> None:
    line = "i=0; while true; do i=$((i+1)); dd if=/dev/zero of=file$i bs=1M count=4 2>/dev/null; done"
    repository.commit({"stelae.toml": limited(line, 'disk = "64MiB", time = "1m"', base)})
    start = time.monotonic()
    with pytest.raises(Failed, match="it wrote more than 64MiB"):
        workshop.build(repository)
    assert time.monotonic() - start < 30


def test_files_without_a_name_count_as_well(repository: Repository, workshop: Workshop, base: str) -> None:
    hidden = "exec 3>large; rm large; dd if=/dev/zero bs=1M count=80 >&3; sleep 5"
    repository.commit({"stelae.toml": limited(hidden, 'disk = "100MiB"', base)})
    assert workshop.build(repository).created
    # Two of them: one alone is held by the limit of a file's length.
    twice = "exec 3>a 4>b; rm a b; dd if=/dev/zero bs=1M count=40 >&3; dd if=/dev/zero bs=1M count=40 >&4; sleep 30"
    repository.commit({"stelae.toml": limited(twice, 'disk = "60MiB"', base)})
    start = time.monotonic()
    with pytest.raises(Failed, match="wrote more than 60MiB"):
        workshop.build(repository)
    assert time.monotonic() - start < 25


def test_the_lines_of_a_table_share_one_limit_of_the_disk(
    repository: Repository, workshop: Workshop, base: str
) -> None:
    lines = run_lines(*(f"dd if=/dev/zero of=file{n} bs=1M count=12 2>/dev/null" for n in range(3)))
    repository.commit({"stelae.toml": spec(f'{lines}\nlimits.disk = "32MiB"', base=base)})
    with pytest.raises(Failed, match="it wrote more than 32MiB: dd if=/dev/zero of=file2"):
        workshop.build(repository)
    repository.commit({"stelae.toml": spec(f'{lines}\nlimits.disk = "64MiB"', base=base)})
    assert workshop.build(repository).created


def test_what_a_killed_builder_left_is_taken_away(
    repository: Repository, workshop: Workshop, base: str, group: str
) -> None:
    top = GROUPS / "memory" if (GROUPS / "memory").is_dir() else GROUPS
    left = top / group[1:] / "build-999999999-0"
    try:
        left.mkdir(parents=True)
    except OSError:
        pytest.skip("no control groups here")
    repository.commit({"stelae.toml": limited("true", 'memory = "64MiB"', base)})
    workshop.build(repository)
    assert not left.exists()


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
