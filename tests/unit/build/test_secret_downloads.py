"""Secrets that downloads read: a build with a private registry, and pip with a file that is only in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.build.secrets import Secrets
from stelae.domain.errors import StelaeError
from stelae.images.tree import Tree

from .npm_registry import Registry, lock, running
from .repository import Repository
from .test_builder import oci_base
from .test_private_index import SECRET, index, wanted, wheels
from .workshop import Workshop, spec

__all__ = ["index"]

TOKEN = "npm_q8S2xV5nD1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """A registry of npm packages behind a token, which nothing on the machine knows."""
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with running() as made:
        made.authorization = f"Bearer {TOKEN}"
        monkeypatch.setenv("npm_config_registry", made.url)
        yield made


def test_a_build_from_a_private_registry(
    registry: Registry, repository: Repository, workshop: Workshop, tmp_path: Path
) -> None:
    base = oci_base(tmp_path / "base", Tree())
    text = spec('node = "package-lock.json"\nsecrets = ["npmrc"]', base=base)
    packages = {"node_modules/tool": registry.add("tool", "1.0.0", {"index.js": b"1"})}
    repository.commit({"package-lock.json": lock(packages), "stelae.toml": text})
    request = workshop.send(repository)
    with pytest.raises(StelaeError, match=r"401|password|credentials|refuse") as caught:
        workshop.builder.build(request)
    npmrc = f"//{registry.url.removeprefix('http://')}:_authToken={TOKEN}\n".encode()
    given = replace(request, secrets={"npmrc": npmrc})
    built = workshop.builder.build(given, workshop.lines.append)
    assert [layer.name for layer in built.layers] == ["base", "node", "system", "files"]
    assert b"app/node_modules/tool/index.js" in workshop.tree(built.image.digest)
    kept = [path for path in workshop.folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []
    assert TOKEN not in f"{workshop.lines} {caught.value} {caught.value.details} {built}"

    # Without the token, from what is kept: the same image, and the registry is not asked.
    asked = len(registry.asked)
    again = workshop.builder.build(request)
    assert again.image.digest == built.image.digest
    assert len(registry.asked) == asked


@pytest.mark.parametrize("name", ["pip.conf", "netrc"])
def test_pip_reads_a_file_that_is_only_in_memory(name: str, index: Registry, tmp_path: Path) -> None:
    host = index.url.removeprefix("http://")
    values = {
        "pip.conf": f"[global]\nindex-url = http://me:{SECRET}@{host}simple/\n",
        "netrc": f"machine 127.0.0.1 login me password {SECRET}\n",
    }
    if name == "pip.conf":
        os.environ.pop("PIP_INDEX_URL")
    with Secrets({name: values[name].encode()}) as secrets:
        found = wheels(tmp_path, **{name.replace(".", "_"): secrets.files([name])[name]})
        (item,) = found.choose((wanted(tmp_path),), None)
    assert (item.name, item.version) == ("demo", "1.0")
    kept = [
        path for path in (tmp_path).rglob("*")
        if path.is_file() and "work-" not in str(path) and SECRET.encode() in path.read_bytes()
    ]  # fmt: skip
    assert kept == []
