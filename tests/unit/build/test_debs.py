"""Debian packages as files: what they say of themselves, and the order in which they are installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from stelae.build import debs
from stelae.build.debs import Deb, check_names, essential, rounds
from stelae.domain.errors import Failed, InvalidInput


def deb(name: str, *needs: str, before: tuple[str, ...] = (), needed: bool = False, provides: str = "") -> Deb:
    return Deb(
        path=Path(f"{name}.deb"), name=name, version="1", architecture="all", essential=needed,
        needs=tuple(tuple(group.split("|")) for group in needs),
        needs_before=tuple(tuple(group.split("|")) for group in before),
        provides=frozenset({name, *provides.split()}),
    )  # fmt: skip


def names(items: Iterable[Deb]) -> list[str]:
    return [item.name for item in items]


def test_what_a_package_says(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    folder = tmp_path / "made"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN").chmod(0o755)
    (folder / "DEBIAN" / "control").write_text(
        "Package: demo\nVersion: 1:2~rc-3\nArchitecture: all\nEssential: yes\nMaintainer: Ana <ana@example.com>\n"
        "Pre-Depends: libc6 (>= 2.36)\nDepends: a:any (>= 1) | b, c (= 2),\n d\n"
        "Provides: demo-api (= 2), other\nDescription: a demo\n Essential: no\n"
    )
    made = subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", folder, tmp_path], capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    (path,) = tmp_path.glob("*.deb")
    found = debs.read(path)
    assert (found.name, found.version, found.architecture, found.essential) == ("demo", "1:2~rc-3", "all", True)
    assert found.needs_before == (("libc6",),)
    assert found.needs == (("a", "b"), ("c",), ("d",))
    assert found.provides == {"demo", "demo-api", "other"}
    assert debs.control(path, "Version") == "1:2~rc-3\n"
    path.write_bytes(b"no package")
    with pytest.raises(InvalidInput, match="not a Debian package"):
        debs.read(path)


def test_the_essential_ones_come_with_all_that_they_need() -> None:
    made = [
        deb("bash", "libc6", "absent|readline", before=("dash",), needed=True), deb("libc6", "libgcc"),
        deb("libgcc", "libc6"), deb("dash", "awk"), deb("mawk", provides="awk"), deb("gawk", provides="awk"),
        deb("readline", "base-files"), deb("base-files"), deb("python3", "libc6"), deb("base-passwd", needed=True),
    ]  # fmt: skip
    assert names(essential(made)) == [
        "base-passwd", "base-files", "bash", "dash", "gawk", "libc6", "libgcc", "readline"
    ]  # fmt: skip
    assert names(essential(reversed(made))) == names(essential(made))


def test_the_real_package_is_taken_before_one_that_provides_it() -> None:
    made = [deb("top", "awk", needed=True), deb("aaa", provides="awk"), deb("awk")]
    assert names(essential(made)) == ["awk", "top"]


def test_what_must_be_there_before_is_configured_before() -> None:
    there = [deb("libc6"), deb("debconf", provides="debconf-2.0")]
    made = [
        deb("late", before=("middle",)), deb("middle", "late", before=("early|other",)),
        deb("early", before=("libc6",)),
        deb("plain", "late", before=("debconf-2.0",)), deb("elsewhere", before=("not-among-them",)),
    ]  # fmt: skip
    assert [names(group) for group in rounds(made, there)] == [
        ["early", "elsewhere", "plain"], ["middle"], ["late"]
    ]  # fmt: skip
    circle = [deb("a", before=("b",)), deb("b", before=("a",))]
    assert [names(group) for group in rounds(circle, ())] == [["a", "b"]]
    assert rounds((), there) == ()


def test_a_package_in_two_versions() -> None:
    check_names([deb("a"), deb("b")])
    with pytest.raises(Failed, match="a is there twice"):
        check_names([deb("a"), deb("b"), deb("a")])
