"""node_modules from a package-lock, with a registry on this machine; npm itself is compared in tests/real."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stelae.build import http_get, npm_config
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.inputs import Inputs, told
from stelae.build.node_deps import make_node
from stelae.build.roots import Roots
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.domain.inputs import Input
from stelae.images import content
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.tree import Kind, Tree, file

from .npm_registry import Registry, lock, running

SECRET = "s3cr3t-of-the-registry"


class Place:
    """A store, a cache and a store of inputs in a folder; ``lines`` are what the last step said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout.open(folder / "images")
        self.lines: list[str] = []
        libc = Tree()
        libc.add(b"lib/libc.so.6", file(b""))
        digest, size = self.layout.add_layer(libc, mtime=FILE_TIME)
        self.base = (LayerFile(digest=digest, size=size),)

    def make(
        self, data: bytes, locked: Sequence[Input] | None = None, *, offline: bool = False, cache: str = "cache",
        name: str = "package-lock.json", credentials: Mapping[str, Path] | None = None,
    ) -> Made:  # fmt: skip
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        self.lines = []
        return make_node(
            Cache(self.folder / cache, self.layout), Roots(self.folder / "roots", self.layout),
            Inputs(self.folder / "inputs", offline=offline), (name, data), self.base, "/app", locked, work,
            self.lines.append, credentials=credentials,
        )  # fmt: skip

    def tree(self, made: Made) -> Tree:
        return read_layer(self.layout.blob_path(made.layers[0].digest))

    def text(self, made: Made, path: str) -> bytes:
        tree = self.tree(made)
        return content.read(tree[f"app/{path}".encode()].content)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    monkeypatch.setattr(http_get, "PAUSE", 0.01)
    monkeypatch.setattr(npm_config, "_OF_ALL", ())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with running() as made:
        monkeypatch.setenv("npm_config_registry", made.url)
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_npm_would_put(registry: Registry, place: Place) -> None:
    tool = {"cli.js": b"#!/usr/bin/env node\r\nx\r\n", ".gitignore": b"a", "run*": b"", "sub/.gitignore": b"b",
            "sub/.npmignore": b"c", "package.json": b"{}"}  # fmt: skip
    made = place.make(
        lock({
            "node_modules/tool": registry.add("tool", "1.0.0", tool)
            | {"bin": {"tool": "./cli.js", "gone": "gone.js"}, "hasInstallScript": True},
            "node_modules/@a/b": registry.add("@a/b", "2.0.0", {"index.js": b"2"}),
            "node_modules/@a/b/node_modules/tool": registry.add("tool", "0.9.0", {"cli.js": b"old"})
            | {"bin": "cli.js"},
            "node_modules/other-name": registry.add("@a/b", "1.0.0", {"index.js": b"1"}) | {"name": "@a/b"},
            "node_modules/dev": {"version": "1.0.0", "dev": True, "integrity": "sha512-" + "0" * 86 + "=="},
            "node_modules/pack": {"resolved": "packages/pack", "link": True},
            "packages/pack": {"version": "1.0.0", "bin": {"pack": "p.js"}},
            "packages/pack/node_modules/tool": registry.add("tool", "0.8.0", {"x": b""}),
        })
    )  # fmt: skip
    tree = place.tree(made)
    # npm's way: Unix line end after #!, executable when linked, .npmignore instead of .gitignore.
    assert place.text(made, "node_modules/tool/cli.js") == b"#!/usr/bin/env node\nx\r\n"
    assert tree[b"app/node_modules/tool/cli.js"].mode == tree[b"app/node_modules/tool/run"].mode == 0o755
    assert tree[b"app/node_modules/tool/package.json"].mode == 0o644
    assert place.text(made, "node_modules/tool/.npmignore") == b"a"
    assert place.text(made, "node_modules/tool/sub/.npmignore") == b"c"
    assert not any(path.endswith(b".gitignore") for path in tree)
    assert place.text(made, "node_modules/other-name/index.js") == b"1"
    links = {path.decode(): node.target.decode() for path, node in tree.items() if node.kind is Kind.SYMLINK}
    assert links == {
        "app/node_modules/.bin/tool": "../tool/cli.js",
        "app/node_modules/.bin/pack": "../../packages/pack/p.js",
        "app/node_modules/@a/b/node_modules/.bin/tool": "../tool/cli.js",
        "app/node_modules/pack": "../packages/pack",
    }
    assert b"app/packages/pack/node_modules/tool/x" in tree
    assert not any(b"dev" in path for path in tree)
    assert {(node.uid, node.gid) for node in tree.values()} == {(0, 0)}
    assert {(item.file, item.name, item.version) for item in told(made.facts)} == {
        ("node_modules/tool", "tool", "1.0.0"), ("node_modules/@a/b", "@a/b", "2.0.0"),
        ("node_modules/@a/b/node_modules/tool", "tool", "0.9.0"), ("node_modules/other-name", "@a/b", "1.0.0"),
        ("packages/pack/node_modules/tool", "tool", "0.8.0"),
    }  # fmt: skip
    assert made.facts["scripts"] == ["node_modules/tool"]
    assert "node: install scripts were not run: node_modules/tool" in place.lines


def test_nothing_is_downloaded_twice(registry: Registry, place: Place) -> None:
    data = lock({"node_modules/a": registry.add("a", "1.0.0", {"x": b"1"}),
                 "node_modules/b/node_modules/a": registry.add("a", "1.0.0", {"x": b"1"})})  # fmt: skip
    first = place.make(data)
    assert len(registry.asked) == 1
    again = place.make(data, offline=True)
    assert again.cached
    assert again.facts == first.facts
    # One more package: only that one. Another cache, with the lock: nothing, and the same layer.
    place.make(lock({**json.loads(data)["packages"], "node_modules/c": registry.add("c", "1.0.0", {"y": b""})}))
    assert len(registry.asked) == 2
    other = place.make(data, told(first.facts), offline=True, cache="other")
    assert other.layers == first.layers
    with pytest.raises(Unreachable, match=r"npm package a 1\.0\.0 is not in the store"):
        place.make(data, offline=True, cache="third")
    assert len(registry.asked) == 2


def test_bytes_that_the_disk_changed_are_downloaded_again(registry: Registry, place: Place) -> None:
    data = lock({"node_modules/a": registry.add("a", "1.0.0", {"x": b"1"})})
    (item,) = told(place.make(data).facts)
    blob = Inputs(place.folder / "inputs").blobs.path(item.digest)
    blob.chmod(0o600)
    blob.write_bytes(b"changed")
    place.layout.blob_path(place.make(data).layers[0].digest).unlink()
    assert place.text(place.make(data), "node_modules/a/x") == b"1"
    assert len(registry.asked) == 2


def test_a_stale_lock(registry: Registry, place: Place) -> None:
    entry = registry.add("a", "1.0.0", {"x": b"1"})
    data = lock({"node_modules/a": entry})
    items = told(place.make(data).facts)
    assert place.make(data, items).layers == place.make(data).layers
    empty = registry.add("a", "1.0.1", {"x": b"1"})
    for entries, locked, words in (
        ({"node_modules/a": entry}, (), r"a 1\.0\.0 is not locked"),
        ({}, items, r"a 1\.0\.0 locked, not needed now"),
        ({"node_modules/b": entry}, items, r"b 1\.0\.0 is not locked"),
        ({"node_modules/a": empty}, items, r"a 1\.0\.0 locked, a 1\.0\.1 needed now"),
        ({"node_modules/a": registry.serve("a", "1.0.0", b"other")}, items, r"a 1\.0\.0 has other bytes"),
    ):
        with pytest.raises(InvalidInput, match=f"stelae.lock is stale: {words}"):
            place.make(lock(entries), locked)


def test_a_wrong_integrity_is_never_kept(registry: Registry, place: Place) -> None:
    entry = registry.add("a", "1.0.0", {"x": b"1"})
    registry.add("a", "1.0.0", {"x": b"evil"})
    with pytest.raises(InvalidInput, match=r"a 1\.0\.0 has another integrity") as caught:
        place.make(lock({"node_modules/a": entry}))
    assert caught.value.where == "node_modules/a"
    assert list((place.folder / "inputs").iterdir()) == []


def test_a_registry_that_stumbles(registry: Registry, place: Place) -> None:
    registry.failures = [503, 0, 429]
    place.make(lock({"node_modules/a": registry.add("a", "1.0.0", {"x": b"1"})}))
    # One more than the failures, and one that http_get does itself when a kept connection is closed.
    assert len(registry.asked) in (4, 5)
    registry.failures = [500] * 20
    with pytest.raises(Unreachable, match="does not answer: 500"):
        place.make(lock({"node_modules/b": registry.add("b", "1.0.0", {"x": b"2"})}))
    registry.failures = []
    with pytest.raises(Unreachable, match=r"no registry has c 1\.0\.0: .*404"):
        place.make(lock({"node_modules/c": {"version": "1.0.0", "integrity": "sha512-" + "0" * 86 + "=="}}))


def test_a_tarball_that_is_too_large(registry: Registry, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stelae.build.npm_store.MOST_BYTES", 10)
    with pytest.raises(InvalidInput, match="larger than 10 bytes"):
        place.make(lock({"node_modules/a": registry.add("a", "1.0.0", {"x": b"1"})}))


def test_a_hostile_tarball_names_the_package(registry: Registry, place: Place) -> None:
    entry = registry.add("a", "1.0.0", {"../../etc/passwd": b"evil"})
    with pytest.raises(InvalidInput, match=r"package/../../etc/passwd") as caught:
        place.make(lock({"node_modules/a": entry}))
    assert caught.value.where == "a 1.0.0"


def test_a_package_from_an_address(
    registry: Registry, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = registry.add("a", "1.0.0", {"x": b"1"})
    registry.files["/elsewhere.tgz"] = registry.files.pop("/r/a/-/a-1.0.0.tgz")
    address = registry.url.replace("/r/", "/elsewhere.tgz")
    # The configured registry is asked first: a lock made elsewhere works behind a mirror.
    place.make(lock({"node_modules/a": {**entry, "resolved": address}}))
    assert registry.asked == ["/r/a/-/a-1.0.0.tgz", "/elsewhere.tgz"]
    # Without any configuration only what the lock says.
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.setenv("PATH", str(tmp_path))
    registry.asked.clear()
    shutil.rmtree(tmp_path / "inputs")
    place.make(lock({"node_modules/a": {**entry, "resolved": address}}), cache="other")
    assert registry.asked == ["/elsewhere.tgz"]
    with pytest.raises(Unreachable, match="no registry is configured"):
        place.make(lock({"node_modules/b": {**entry, "version": "3.0.0", "integrity": "sha512-" + "0" * 86 + "=="}}))


def everything(folder: Path) -> bytes:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "npmrc")
    return b"".join(str(path).encode() + path.read_bytes() for path in files)


@pytest.mark.parametrize("way", ["token", "basic", "pair"])
def test_a_private_registry(way: str, registry: Registry, place: Place, tmp_path: Path) -> None:
    host = registry.url.removeprefix("http:")
    pair = base64.b64encode(f"me:{SECRET}".encode()).decode()
    password = base64.b64encode(SECRET.encode()).decode()
    lines = {"token": f"{host}:_authToken={SECRET}", "basic": f"{host}:_auth = {pair}",
             "pair": f"{host}:username=me\n{host}:_password={password}"}[way]  # fmt: skip
    registry.authorization = f"Bearer {SECRET}" if way == "token" else f"Basic {pair}"
    npmrc = tmp_path / "npmrc"
    npmrc.write_text(f"; private\n@a:registry={registry.url}\n{lines}\n")
    data = lock({"node_modules/@a/b": registry.add("@a/b", "1.0.0", {"x": b"1"})})
    with pytest.raises(Unreachable, match="401") as caught:
        place.make(data)
    assert SECRET not in repr(caught.value) + caught.value.hint
    made = place.make(data, credentials={"npmrc": npmrc})
    written = everything(place.folder) + repr((made, place.lines)).encode()
    for secret in (SECRET, password, pair):
        assert secret.encode() not in written
    # The credentials are no part of the key: without them it is found.
    assert place.make(data).cached


def test_a_password_goes_to_its_own_registry_only(registry: Registry, place: Place, tmp_path: Path) -> None:
    npmrc = tmp_path / "npmrc"
    npmrc.write_text(f"registry={registry.url}\n{registry.url.removeprefix('http:')}:_authToken={SECRET}\n")
    entry = registry.add("a", "1.0.0", {"x": b"1"})
    with running() as other:
        other.files["/moved"] = registry.files["/r/a/-/a-1.0.0.tgz"]
        registry.redirects["/r/a/-/a-1.0.0.tgz"] = other.url.replace("/r/", "/moved")
        place.make(lock({"node_modules/a": entry}), credentials={"npmrc": npmrc})
        assert other.seen == [None]
    assert registry.seen == [f"Bearer {SECRET}"]


def test_credentials_that_cannot_be(registry: Registry, place: Place, tmp_path: Path) -> None:
    for credentials, words in (({"npmrc": tmp_path / "none"}, "not a file"), ({"ssh": tmp_path}, "the name ssh")):
        with pytest.raises(InvalidInput, match=words):
            place.make(lock({}), credentials=credentials)


def test_addresses_are_shown_without_passwords(registry: Registry, place: Place, monkeypatch: Any) -> None:
    monkeypatch.setenv("npm_config_registry", registry.url.replace("//", f"//me:{SECRET}@"))
    with pytest.raises(Unreachable) as caught:
        place.make(lock({"node_modules/c": {"version": "1.0.0", "integrity": "sha512-" + "0" * 86 + "=="}}))
    assert SECRET not in str(caught.value) + repr(caught.value.__cause__) + str(caught.value.__cause__)


def test_a_lock_in_a_folder_and_an_empty_one(registry: Registry, place: Place) -> None:
    made = place.make(
        lock({"node_modules/a": registry.add("a", "1.0.0", {"x": b"1"})}), name="web/npm-shrinkwrap.json"
    )
    assert b"app/web/node_modules/a/x" in place.tree(made)
    assert place.make(lock({})).layers == ()
