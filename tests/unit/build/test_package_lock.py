"""package-lock.json: which packages belong where, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.build.package_lock import Platform, read
from stelae.domain.errors import InvalidInput, StelaeError

from .npm_registry import integrity, lock

GLIBC = Platform(cpu="x64", libc="glibc")
SHA512 = integrity(b"x")
FIXTURES = Path(__file__).parents[2] / "fixtures" / "languages"


def entry(**more: Any) -> dict[str, Any]:
    return {"version": "1.0.0", "integrity": SHA512, **more}


def places(packages: dict[str, Any], platform: Platform = GLIBC) -> list[str]:
    return [package.place.removeprefix("node_modules/") for package in read("l", lock(packages), platform).packages]


def test_a_lock_of_npm() -> None:
    plan = read("package-lock.json", (FIXTURES / "node" / "package-lock.json").read_bytes(), GLIBC)
    names = {package.place for package in plan.packages}
    assert "node_modules/express" in names
    assert "node_modules/@esbuild/linux-x64" in names
    assert "node_modules/typescript" not in names
    assert not any("win32" in name or "darwin" in name or "musl" in name for name in names)
    (esbuild,) = (package for package in plan.packages if package.name == "esbuild")
    assert esbuild.scripts
    assert esbuild.bins == (("esbuild", "bin/esbuild"),)


def test_development_dependencies_are_left_out() -> None:
    kinds = {"a": {}, "b": {"dev": True}, "c": {"devOptional": True}, "d": {"peer": True}, "e": {"extraneous": True}}
    packages = {f"node_modules/{name}": entry(**kind) for name, kind in kinds.items()}
    assert places(packages) == ["a", "c", "d"]


def test_a_stage_has_development_dependencies_but_not_those_of_another_machine() -> None:
    foreign = {"node_modules/w": entry(dev=True, optional=True, os=["win32"])}
    packages = lock({"node_modules/a": entry(), "node_modules/b": entry(dev=True), **foreign})
    assert [package.name for package in read("l", packages, GLIBC, dev=True).packages] == ["a", "b"]
    with pytest.raises(InvalidInput, match="not for linux"):
        read("l", lock({"node_modules/w": entry(dev=True, os=["win32"])}), GLIBC, dev=True)


@pytest.mark.parametrize(
    ("limits", "platform", "fits"),
    [
        ({"os": ["linux"]}, GLIBC, True),
        ({"os": "linux"}, GLIBC, True),
        ({"os": ["!linux"]}, GLIBC, False),
        ({"os": ["!win32"]}, GLIBC, True),
        ({"os": ["darwin", "win32"]}, GLIBC, False),
        ({"os": ["any"]}, GLIBC, True),
        ({"cpu": ["x64"]}, GLIBC, True),
        ({"cpu": ["arm64"]}, GLIBC, False),
        ({"cpu": ["x64", "!x64"]}, GLIBC, False),
        ({"libc": ["glibc"]}, GLIBC, True),
        ({"libc": ["musl"]}, GLIBC, False),
        ({"libc": ["glibc"]}, Platform(cpu="x64", libc=""), False),
        ({"libc": ["musl"], "cpu": ["arm64"]}, Platform(cpu="arm64", libc="musl"), True),
    ],
)
def test_only_optional_packages_may_be_for_another_machine(
    limits: dict[str, Any], platform: Platform, fits: bool
) -> None:
    assert places({"node_modules/a": entry(optional=True, **limits)}, platform) == ["a"] * fits
    assert places({"node_modules/a": entry(dev=True, **limits)}, platform) == []
    if not fits:
        with pytest.raises(InvalidInput, match="it is not for linux") as caught:
            places({"node_modules/a": entry(**limits)}, platform)
        assert caught.value.where == "l: node_modules/a"


def test_what_only_a_left_out_package_needs_is_left_out() -> None:
    packages = {
        "": {"optionalDependencies": {"tool": "1"}, "dependencies": {"kept": "1"}},
        "node_modules/tool": entry(optional=True, dependencies={"windows": "1", "helper": "1", "kept": "1"}),
        "node_modules/windows": entry(optional=True, os=["win32"], dependencies={"loop": "1"}),
        "node_modules/windows/node_modules/loop": entry(optional=True, dependencies={"windows": "1", "loop": "1"}),
        "node_modules/helper": entry(optional=True),
        "node_modules/kept": entry(optionalDependencies={"other": "1"}),
        "node_modules/other": entry(optional=True, peerDependencies={"helper2": "1"}),
        "node_modules/helper2": entry(optional=True),
    }
    assert places(packages) == ["helper2", "kept", "other"]


def test_workspaces_and_bundles() -> None:
    plan = read("l", lock({
        "node_modules/w": {"link": True, "resolved": "packages/w"}, "packages/w": {"bin": "./x.js"},
        "node_modules/a": entry(bundleDependencies=["b"]),
        "node_modules/a/node_modules/b": {"version": "2.0.0", "inBundle": True, "bin": {"../../evil": "../../b.js"}},
    }), GLIBC)  # fmt: skip
    (link,) = plan.links
    assert (link.place, link.target, link.bins) == ("node_modules/w", "packages/w", (("w", "x.js"),))
    assert [(package.bundled, package.bins) for package in plan.packages] == [
        (False, ()), (True, (("evil", "b.js"),)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("node_modules/a", {"version": "1.0.0"}, "no integrity of SHA-512"),
        ("node_modules/a", entry(integrity="sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="), "no integrity of SHA-512"),
        ("node_modules/a", entry(integrity="sha512-short"), "no integrity of SHA-512"),
        ("node_modules/a", entry(resolved="git+ssh://git@example.com/a.git#abc"), "it comes from git"),
        ("node_modules/a", entry(resolved="file:../a.tgz"), "it comes from a file"),
        ("node_modules/a", entry(resolved="ftp://example.com/a.tgz"), "it comes from an unknown source"),
        ("node_modules/a", entry(version="../1"), "not a version"),
        ("node_modules/a", entry(version=1), "not a version"),
        ("node_modules/a", entry(name="../a"), "not the name"),
        ("node_modules/a", entry(bin=[1]), "its bin is damaged"),
        ("node_modules/a", entry(bin={"a": 1}), "its bin is damaged"),
        ("node_modules/a", entry(bin={".wh.a": "x"}), "its bin is damaged"),
        ("node_modules/a", entry(os=1), "its os, cpu or libc is damaged"),
        ("../node_modules/a", entry(), "outside the folder"),
        ("/node_modules/a", entry(), "outside the folder"),
        ("node_modules//a", entry(), "outside the folder"),
        ("node_modules/a", {"link": True, "resolved": "../outside"}, "outside the folder"),
        ("node_modules/a", {"link": True, "resolved": "/etc"}, "no folder of the commit"),
        ("node_modules/a", {"link": True}, "no folder of the commit"),
    ],
)
def test_the_entry_is_named(place: str, value: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        places({place: value})
    assert caught.value.where == f"l: {place}"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lock({}, version=1), "lockfileVersion 1; 2 and 3"),
        (b"{}", "lockfileVersion None"),
        (b'{"lockfileVersion": true}', "lockfileVersion True"),
        (b'{"lockfileVersion": 3}', "no packages"),
        (b"[]", "no object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_other_files(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read("l", data, GLIBC)
    with pytest.raises(InvalidInput, match="lockfileVersion 1") as caught:
        read("l", lock({}, version=1), GLIBC)
    assert "npm install --package-lock-only --lockfile-version 3" in caught.value.hint


WORDS = st.sampled_from(["", "a", "1.0.0", SHA512, "!linux", "../x", "\0"]) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["version", "resolved", "integrity", "dev", "optional", "os", "cpu", "libc", "link", "bin", "name", "inBundle",
     "dependencies", "optionalDependencies", "peerDependencies", "peerDependenciesMeta", "devOptional"]
)  # fmt: skip
PLACES = st.sampled_from(["", "node_modules/a", "node_modules/b", "node_modules/a/node_modules/b", "p"]) | st.text()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(PLACES, st.dictionaries(KEYS, VALUES) | VALUES, max_size=5))
def test_any_document_gives_a_plan_or_a_typed_error(packages: dict[str, Any]) -> None:
    data = json.dumps({"lockfileVersion": 3, "packages": packages}).encode()
    with suppress(StelaeError):
        read("l", data, GLIBC)
