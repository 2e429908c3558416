"""What stays of a Debian base, and that it holds what was asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from stelae.build import bootstrap, debian
from stelae.build.debs import Deb
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.inputs import Input, InputKind
from stelae.images.tree import Tree, file

STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
Description: x
 Version: not this

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: python3
Status: install ok installed
Architecture: amd64
Version: 3.11.2-1+b1
"""


def deb(name: str, version: str) -> Input:
    return Input(
        kind=InputKind.DEB, name=name, version=version, architecture="amd64", digest=digest_of(name.encode())
    )


def test_what_is_installed_has_to_be_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = Tree()
    tree.add(b"var/lib/dpkg/status", file(STATUS))
    monkeypatch.setattr(debian, "bootstrap", lambda *_: tree)
    files = {"a": ("libc6", "2.36-9"), "b": ("python3", "3.11.2-1+b1"), "c": ("curl", "8")}

    def read(path: Path) -> Deb:
        name, version = files[path.name]
        return Deb(path=path, name=name, version=version, architecture="amd64")

    monkeypatch.setattr("stelae.build.debs.read", read)
    wanted = {deb("libc6", "2.36-9"): tmp_path / "a", deb("python3", "3.11.2-1+b1"): tmp_path / "b"}
    with pytest.raises(InvalidInput, match=r"that of libc6 2\.36-9"):
        debian.make("bookworm", {deb("libc6", "1-old"): tmp_path / "a"}, tmp_path, print)
    assert b"var/lib/dpkg/status" in debian.make("bookworm", wanted, tmp_path, print)
    with pytest.raises(Failed, match="curl"):
        debian.make("bookworm", {**wanted, deb("curl", "8"): tmp_path / "c"}, tmp_path, print)
    with pytest.raises(Failed, match="libc6"):
        debian.make("bookworm", {deb("python3", "3.11.2-1+b1"): tmp_path / "b"}, tmp_path, print)


def test_what_differs_between_machines_goes() -> None:
    gone = [
        b"etc/hostname", b"etc/resolv.conf", b"etc/machine-id", b"etc/apt/sources.list", b"etc/passwd-",
        b"var/lib/apt/lists/x", b"var/log/dpkg.log", b"var/cache/ldconfig/aux-cache", b"var/lib/dpkg/lock",
        b"usr/share/man/man1/ls.1", b"usr/share/doc/bash/changelog.gz", b"dev/stdin", b"run/lock/x",
        b"var/lib/dpkg/status-old", b"usr/share/locale/de/x.mo",
    ]  # fmt: skip
    stays = [
        b"etc/passwd", b"var/lib/dpkg/status", b"usr/share/doc/bash/copyright", b"etc/hosts.allow", b"usr/bin/env",
        b"var/lib/dpkg/info/bash.list", b"usr/share/zoneinfo/UTC",
    ]  # fmt: skip
    tree = Tree()
    for path in gone + stays:
        tree.add(path, file(b"x"))
    left = debian._cleaned(tree)
    assert sorted(path for path in left if left[path].kind == "file") == sorted(stays)
    assert {b"var/log", b"var/cache", b"dev", b"run"} <= set(left)


@pytest.mark.parametrize(
    ("suite", "packages"),
    [
        ("--help", ()),
        ("a b", ()),
        ("", ()),
        ("bookworm", ("a,b",)),
        ("bookworm", ("./x.deb",)),
        ("bookworm", ("--x",)),
        ("bookworm", ("?essential",)),
    ],
)
def test_names_that_a_tool_would_take_for_something_else(suite: str, packages: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        debian.check(suite, packages)


def test_packages_that_are_set_up_are_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [100.0], list[str]()
    monkeypatch.setattr(bootstrap, "time", SimpleNamespace(monotonic=lambda: now[0]))
    tell = bootstrap._quiet(told.append)
    for number in range(80):
        tell("Unpacking something (1.0) ...")
        tell(f"Setting up package{number}:amd64 (1.0) ...")
        now[0] += 0.125
    assert told == [f"base: setting up package{number}:amd64" for number in range(0, 80, 8)]
