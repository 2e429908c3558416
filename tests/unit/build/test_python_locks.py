"""uv.lock and pylock.toml: what they pin for an image, and what is refused. The fixtures were written by uv."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.build import pylock, python_lock, uv_lock
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.domain.errors import InvalidInput, StelaeError

from .test_wheels import TARGET

FIXTURES = Path(__file__).parents[2] / "fixtures" / "languages" / "python"
A, B = "a" * 64, "b" * 64
DEBIAN_12 = replace(TARGET, patch=2)
PYTHON_312 = replace(TARGET, minor=12, patch=4)


def pins(name: str, target: Target) -> dict[str, str]:
    return {pinned.name: pinned.version for pinned in python_lock.read(name, (FIXTURES / name).read_bytes(), target)}


def test_what_uv_wrote() -> None:
    found = pins("uv.lock", DEBIAN_12)
    assert found.keys() == {
        "anyio", "async-timeout", "blinker", "certifi", "click", "flask", "h11", "h2", "hpack", "httpcore", "httpx",
        "hyperframe", "idna", "itsdangerous", "jinja2", "markupsafe", "redis", "typing-extensions", "werkzeug",
    }  # fmt: skip
    # Two versions by marker; not the extra, not the group, not the project; async-timeout only below 3.11.3.
    assert found["idna"] == "3.10"
    newer = pins("uv.lock", PYTHON_312)
    assert newer["idna"] == "3.11"
    assert "async-timeout" not in newer
    assert "async-timeout" not in pins("uv.lock", replace(TARGET, patch=7))


@pytest.mark.parametrize("target", [DEBIAN_12, PYTHON_312])
def test_both_locks_of_one_project_pin_the_same(target: Target) -> None:
    assert pins("pylock.toml", target) == pins("uv.lock", target)
    one, other = (
        python_lock.read(name, (FIXTURES / name).read_bytes(), target) for name in ("uv.lock", "pylock.toml")
    )
    assert {item.name: set(item.hashes) for item in one} == {item.name: set(item.hashes) for item in other}


def test_the_name_of_the_file_says_what_it_is() -> None:
    data = (FIXTURES / "pylock.toml").read_bytes()
    assert python_lock.read("a/pylock.prod.toml", data, DEBIAN_12)
    with pytest.raises(InvalidInput, match="not a requirement"):
        python_lock.read("requirements.txt", data, DEBIAN_12)
    for name in ("uv.lock", "pylock.toml", "requirements.txt"):
        with pytest.raises(InvalidInput, match="UTF-8"):
            python_lock.read(name, b"\xff", DEBIAN_12)
    with pytest.raises(InvalidInput, match="not TOML"):
        python_lock.read("uv.lock", b"a = ", DEBIAN_12)


def uv(*packages: dict[str, Any], root: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a lock of a project that needs what is listed, or what *root* says."""
    own = {"name": "app", "version": "0", "source": {"virtual": "."},
           "dependencies": [{"name": package["name"]} for package in packages]}  # fmt: skip
    return {"version": 1, "package": [own | (root or {}), *packages], **more}


def package(name: str, digest: str = A, **more: Any) -> dict[str, Any]:
    wheel = {"url": f"https://example.com/{name}-1.0-py3-none-any.whl", "hash": f"sha256:{digest}"}
    return {"name": name, "version": "1.0", "source": {"registry": "r"}, "wheels": [wheel], **more}


def read(document: dict[str, Any]) -> list[str]:
    return sorted(pinned.name for pinned in uv_lock.read(document, "uv.lock", DEBIAN_12))


def test_extras_and_cycles() -> None:
    one = package("one", dependencies=[{"name": "two", "extra": ["x", "y"]}])
    two = package("two", dependencies=[{"name": "one"}], **{"optional-dependencies": {
        "x": [{"name": "three"}], "z": [{"name": "four"}]}})  # fmt: skip
    document = uv(one, two, package("three"), package("four"), root={"dependencies": [{"name": "one"}]})
    assert read(document) == ["one", "three", "two"]


def test_a_workspace() -> None:
    member = {
        "name": "lib",
        "version": "0",
        "source": {"editable": "packages/lib"},
        "dependencies": [{"name": "one"}],
    }
    document = uv(member, package("one"), package("two"), root={"dependencies": [{"name": "lib"}]})
    assert read(document) == ["one"]
    # Without a project at the root, all members count.
    virtual = {"version": 1, "manifest": {"members": ["lib"]}, "package": [member, package("one")]}
    assert read(virtual) == ["one"]


def test_an_address_counts_only_for_what_is_in_no_index() -> None:
    (pinned,) = uv_lock.read(uv(package("one", source={"url": "https://example.com/x.whl"})), "uv.lock", DEBIAN_12)
    assert pinned.line == f"one @ https://example.com/one-1.0-py3-none-any.whl --hash=sha256:{A}"
    (pinned,) = uv_lock.read(uv(package("one")), "uv.lock", DEBIAN_12)
    assert pinned == Pinned(name="one", version="1.0", hashes=(A,), files=("one-1.0-py3-none-any.whl",))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"version": 2}, "uv.lock of version 2; 1 is supported"),
        ({}, "uv.lock of version None"),
        (uv(package("one"), **{"requires-python": ">=3.12"}), "for Python >=3.12, and the image has 3.11.2"),
        (uv(package("one"), **{"requires-python": "x"}), "requires-python is damaged"),
        (uv(package("one", source={"git": "https://example.com/one"})), "one comes from git"),
        (uv(package("one", source={"path": "../one.whl"})), "one comes from path"),
        (uv(package("one", source={"directory": "../one"})), "one comes from directory"),
        (uv(package("one", source={})), "one comes from an unknown source"),
        (uv(package("one", wheels=[], sdist={"hash": f"sha256:{A}"})), r"one 1\.0 has no wheel with a hash"),
        (uv(package("one", wheels=[{"url": "https://example.com/one-1.0-py3-none-any.whl"}])), "no wheel with a"),
        (uv(package("one"), package("one", B)), "app needs one, which is there 2 times"),
        (uv(root={"dependencies": [{"name": "one"}]}), "app needs one, which is there 0 times"),
        (uv(package("one"), root={"dependencies": [{"name": "one", "marker": "no marker"}]}), "not a marker"),
        ({"version": 1, "package": [package("one")]}, "names no project of its own"),
        ({"version": 1, "package": "x"}, "damaged"),
        (uv(package("one", version=1)), "damaged"),
        (uv(package("one", version="x y")), "damaged"),
        (uv(package("../one")), "not the name of a package"),
        (uv(package("one", source={"url": "x"}, wheels=[{"url": "file:///etc/x-1.0-py3-none-any.whl",
            "hash": f"sha256:{A}"}])), "not HTTP"),
        (uv(package("one", source={"url": "x"}, wheels=[{"url": "https://me:pw@example.com/x-1.0-py3-none-any.whl",
            "hash": f"sha256:{A}"}])), "the address of one holds a password"),
    ],
)  # fmt: skip
def test_uv_locks_that_are_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read(document)
    assert caught.value.where == "uv.lock"
    assert "me:pw" not in str(caught.value)


def py(*packages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"lock-version": "1.0", "created-by": "test", "packages": list(packages), **more}


def wheels(name: str = "one") -> list[dict[str, Any]]:
    return [{"name": f"{name}-1.0-py3-none-any.whl", "url": "https://example.com/1", "hashes": {"sha256": A}}]


def test_groups_extras_and_markers_of_pylock() -> None:
    document = py(
        {"name": "one", "version": "1.0", "wheels": wheels(), "marker": "'web' in dependency_groups"},
        {"name": "two", "version": "1.0", "wheels": wheels("two"), "marker": "'dev' in dependency_groups"},
        {"name": "three", "version": "1.0", "wheels": wheels("three"), "marker": "'x' in extras"},
        {"name": "four", "version": "1.0", "wheels": wheels("four"), "marker": "sys_platform == 'win32'"},
        **{"dependency-groups": ["web", "dev"], "default-groups": ["web"], "extras": ["x"]},
    )
    assert [pinned.name for pinned in pylock.read(document, "pylock.toml", DEBIAN_12)] == ["one"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "lock-version"),
        (py(**{"lock-version": "2.0"}), "2.0"),
        (py(**{"requires-python": ">=3.12"}), "requirement"),
        (py(environments=["sys_platform == 'win32'"]), "environment"),
        (py({"name": "one", "version": "1.0", "sdist": {"name": "one-1.0.tar.gz", "url": "https://example.com/1",
             "hashes": {"sha256": A}}}), r"one 1\.0 has no wheel"),
        (py({"name": "one", "wheels": wheels()}), "one has no version"),
        (py({"name": "one", "vcs": {"type": "git", "url": "https://example.com/1", "commit-id": "1"}}),
         "one comes from version control"),
        (py({"name": "one", "directory": {"path": "."}}), "one comes from a folder"),
        (py({"name": "one", "archive": {"path": "one.whl", "hashes": {"sha256": A}}}), "one comes from a file"),
        (py({"name": "one", "archive": {"url": "https://example.com/one.tar.gz", "hashes": {"sha256": A}}}),
         "has no wheel"),
        (py({"name": "one", "version": "1.0", "wheels": [{**wheels()[0], "hashes": {"md5": "1"}}]}), "has no wheel"),
        (py({"name": "one", "version": "1.0", "wheels": wheels(), "marker": "x"}), "marker"),
        (py({"name": "one", "version": "1.0", "wheels": wheels()}, {"name": "one", "version": "1.0",
             "wheels": wheels()}), "one"),
    ],
)  # fmt: skip
def test_pylocks_that_are_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        pylock.read(document, "pylock.toml", DEBIAN_12)
    assert caught.value.where == "pylock.toml"


def test_an_archive_of_pylock() -> None:
    archive = {"url": "https://example.com/one-1.0-py3-none-any.whl", "hashes": {"sha256": A}}
    (pinned,) = pylock.read(py({"name": "one", "archive": archive}), "pylock.toml", DEBIAN_12)
    assert pinned.line == f"one @ https://example.com/one-1.0-py3-none-any.whl --hash=sha256:{A}"


VALUES = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "1.0", "one", A, f"sha256:{A}", "python_version > '3'",
    "https://[", "one-1.0-py3-none-any.whl", ".", ">=3"]) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
        ["name", "version", "source", "registry", "url", "virtual", "hash", "marker", "extra", "x", "sha256", "path"]
    ), inner, max_size=4), max_leaves=8,
)  # fmt: skip
TABLE = st.dictionaries(
    st.sampled_from(["name", "version", "source", "dependencies", "wheels", "sdist", "resolution-markers", "marker",
                     "optional-dependencies", "archive", "vcs", "directory", "index", "requires-python"]), VALUES,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(TABLE | VALUES, max_size=3),
    st.dictionaries(
        st.sampled_from(["requires-python", "manifest", "environments", "extras", "default-groups"]), VALUES
    ),
)
def test_any_document_gives_pins_or_a_typed_error(packages: list[Any], more: dict[str, Any]) -> None:
    root = {"name": "app", "source": {"virtual": "."}, "dependencies": [{"name": "one"}]}
    for document in (
        {"version": 1, "package": packages, **more}, {"version": 1, "package": [root, *packages], **more},
        {"version": 1, "package": [root, *({**item, "name": "one"} for item in packages if isinstance(item, dict))]},
    ):  # fmt: skip
        with suppress(StelaeError):
            uv_lock.read(document, "uv.lock", DEBIAN_12)
    with suppress(StelaeError):
        pylock.read({**py(), **more, "packages": packages}, "pylock.toml", DEBIAN_12)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_fixtures_give_pins_or_a_typed_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["uv.lock", "pylock.toml"]))
    lines = (FIXTURES / name).read_text().splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at : at + data.draw(st.integers(0, 3))] = [data.draw(st.sampled_from(lines))]
    with suppress(StelaeError):
        python_lock.read(name, "\n".join(lines).encode(), DEBIAN_12)


def test_the_fixtures_name_no_true_host() -> None:
    for name in ("uv.lock", "pylock.toml"):
        text = (FIXTURES / name).read_text()
        assert tomllib.loads(text)
        assert text.count("://") == text.count("://packages.example.com/")
