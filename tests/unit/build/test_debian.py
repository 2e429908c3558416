"""What stays of a Debian base, its packages, and what its maker's words mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.build import debian
from stelae.domain.errors import Failed, InvalidInput, Unreachable
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
PACKAGES = b"""Package: libc6
Architecture: amd64
Version: 2.36-8
SHA256: %s

Package: libc6
Architecture: amd64
Version: 2.36-9
SHA256: %s

Package: python3
Architecture: amd64
Version: 3.11.2-1+b1
SHA256: %s
""" % (b"0" * 64, b"1" * 64, b"2" * 64)


def base(packages: bytes = PACKAGES) -> Tree:
    tree = Tree()
    tree.add(b"var/lib/dpkg/status", file(STATUS))
    tree.add(b"var/lib/apt/lists/some_archive_Packages", file(packages))
    return tree


def test_packages_have_the_digests_of_the_archives_index() -> None:
    found = [(p.name, p.version, p.architecture, p.digest) for p in debian._packages(base())]
    assert found == [
        ("libc6", "2.36-9", "amd64", "sha256:" + "1" * 64), ("python3", "3.11.2-1+b1", "amd64", "sha256:" + "2" * 64)
    ]  # fmt: skip
    with pytest.raises(Failed, match="libc6"):
        debian._packages(base(b""))


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
    ("lines", "status", "kind", "words"),
    [
        (["E: Unable to locate package pyhton3"], 100, InvalidInput, "no package called pyhton3"),
        (["E: Package 'x' has no installation candidate"], 100, InvalidInput, "no package called x"),
        (["Err: 404 Not Found", "E: The repository 'a' does not have a Release file."], 25, InvalidInput, "no suite"),
        (["W: Failed to fetch a  Could not resolve 'b'"], 25, Unreachable, "does not answer"),
        (["tar: write: No space left on device"], 2, Failed, "disk is full"),
        (["sh: 1: exec: mmdebstrap: not found"], 127, Unreachable, "not installed"),
        ([], 124, Failed, "did not end"),
        (["E: something else"], 25, Failed, "status 25"),
    ],
)
def test_errors_in_words(lines: list[str], status: int, kind: type[Exception], words: str) -> None:
    error = debian._error("bookworm", status, lines)
    assert type(error) is kind
    assert words in str(error)


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
def test_names_that_a_tool_would_take_for_something_else(
    suite: str, packages: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput):
        debian.bootstrap(suite, packages, tmp_path, print)
