"""A private package index: pip itself reads the credentials, and nothing else shows them."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.build.cache import Cache
from stelae.build.credentials import masked
from stelae.build.inputs import Inputs
from stelae.build.requirements import Pinned
from stelae.build.wheel_store import Wheels
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.images.layout import Layout

from .npm_registry import Registry, running
from .test_node_deps import everything
from .test_wheels import TARGET, wheel

SECRET = "s3cr3t-of-the-index"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """An index of one wheel behind a password, and a pip that is configured nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    with running() as made:
        monkeypatch.setenv("PIP_INDEX_URL", f"{made.url}simple/")
        path = wheel(tmp_path / "made", {"demo.py": b"x = 1"})
        made.files["/r/simple/demo/"] = f'<a href="../../{path.name}">{path.name}</a>'.encode()
        made.files[f"/r/{path.name}"] = path.read_bytes()
        made.authorization = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        yield made


def wanted(tmp_path: Path) -> Pinned:
    data = next((tmp_path / "made").glob("*.whl")).read_bytes()
    return Pinned(name="demo", version="1.0", hashes=(hashlib.sha256(data).hexdigest(),))


def wheels(folder: Path, **credentials: Path) -> Wheels:
    work = folder / f"work-{len(credentials)}"
    work.mkdir()
    named = {name.replace("_", "."): path for name, path in credentials.items()}
    return Wheels(
        cache=Cache(folder / "cache", Layout.open(folder / "images")), inputs=Inputs(folder / "inputs"), work=work,
        target=TARGET, progress=lambda _: None, credentials=named,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["netrc", "pip_conf"])
def test_the_credentials_are_for_the_download_only(way: str, index: Registry, tmp_path: Path) -> None:
    pinned = wanted(tmp_path)
    with pytest.raises(Unreachable, match="refuses the credentials") as caught:
        wheels(tmp_path).choose([pinned], None)
    assert "netrc" in caught.value.hint
    given = tmp_path / "npmrc"  # the name that everything() leaves out
    if way == "netrc":
        given.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    else:
        url = index.url.replace("//", f"//me:{SECRET}@")
        given.write_text(f"[global]\nindex-url = {url}simple/\n")
        os.environ.pop("PIP_INDEX_URL")  # the environment would win
    (item,) = wheels(tmp_path, **{way: given}).choose([pinned], None)
    assert item.digest == f"sha256:{pinned.hashes[0]}"
    for folder in ("cache", "inputs", "images", "work-1"):
        assert SECRET.encode() not in everything(tmp_path / folder)


def test_a_message_shows_no_password(index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", f"//me:{SECRET}@") + "simple/")
    pinned = Pinned(name="demo", version="1.0", hashes=("0" * 64,))
    with pytest.raises(InvalidInput, match="another digest") as caught:
        wheels(tmp_path).choose([pinned], None)
    assert SECRET not in repr(caught.value.details) + str(caught.value)
    assert masked(f"a https://me:{SECRET}@host/x and http://{SECRET}@h") == "a https://***@host/x and http://***@h"


def test_an_index_that_is_not_there(index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:{SECRET}@127.0.0.1:9/simple/")
    with pytest.raises(Unreachable, match="does not answer") as caught:
        wheels(tmp_path).choose([wanted(tmp_path)], None)
    assert SECRET not in repr(caught.value.details) + str(caught.value)
