"""Files by HTTP: limits, redirections, proxies; and what npm's configuration says of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stelae.build import http_get, npm_config
from stelae.build.http_get import Getter, Missing
from stelae.build.npm_config import NpmConfig, load, parse
from stelae.domain.errors import InvalidInput, Unreachable

from .npm_registry import Registry, running


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr(http_get, "PAUSE", 0.01)
    with running() as made:
        yield made


def got(getter: Getter, url: str, limit: int = 100) -> bytes:
    tries: list[bytearray] = []

    def start() -> Callable[[bytes], None]:
        tries.append(bytearray())
        return tries[-1].extend

    with closing(getter):
        getter.get(url, start, limit)
    return bytes(tries[-1])


def test_each_try_starts_anew(registry: Registry) -> None:
    registry.files["/r/a"] = b"whole"
    registry.failures = [0, 500]
    assert got(Getter(), f"{registry.url}a") == b"whole"


def test_a_connection_is_kept(registry: Registry) -> None:
    registry.files["/r/a"] = b"1"
    getter = Getter()
    with closing(getter):
        for _ in range(3):
            getter.get(f"{registry.url}a", lambda: bytearray().extend, 9)
        assert len(getter._opened) == 1


def test_limits(registry: Registry) -> None:
    registry.files["/r/a"] = b"1" * 100
    assert len(got(Getter(), f"{registry.url}a", 100)) == 100
    with pytest.raises(InvalidInput, match="larger than 99 bytes"):
        got(Getter(), f"{registry.url}a", 99)
    registry.redirects["/r/loop"] = "loop"
    with pytest.raises(Unreachable, match="too many redirections"):
        got(Getter(), f"{registry.url}loop")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "https:///x"])
def test_only_http(place: str, registry: Registry) -> None:
    registry.redirects["/r/a"] = place
    for url in (place, f"{registry.url}a"):
        with pytest.raises(InvalidInput, match="not an HTTP address"):
            got(Getter(), url)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_get, "PAUSE", 0.01)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        got(Getter(), "http://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(caught.value)


def test_a_proxy(registry: Registry) -> None:
    proxy = registry.url.replace("//", "//me:p%40ss@").removesuffix("/r/")
    registry.files["http://registry.example.com/a"] = b"by the proxy"
    assert got(Getter(proxies={"http": proxy}), "http://registry.example.com/a") == b"by the proxy"
    with pytest.raises(Missing, match="404"):
        got(Getter(proxies={"http": proxy}), "http://registry.example.com/b")


def test_registries_and_tokens() -> None:
    config = NpmConfig(parse("""
        ; comments
        # and these
        registry = https://one.example.com/npm
        @a:registry="https://two.example.com/"
        //one.example.com/npm/:_authToken=T1
        //two.example.com/:username = me
        //two.example.com/:_password = c2VjcmV0
        [section]
        nonsense
    """))  # fmt: skip
    assert config.tarball("x", "1.0.0-b.1") == "https://one.example.com/npm/x/-/x-1.0.0-b.1.tgz"
    assert config.tarball("@a/x", "1.0.0") == "https://two.example.com/@a/x/-/x-1.0.0.tgz"
    assert config.headers("https://one.example.com/npm/x/-/x.tgz") == {"Authorization": "Bearer T1"}
    for url in ("https://one.example.com/other/x", "https://one.example.com.evil.example.com/npm/x",
                "https://evil.example.com//one.example.com/npm/x", "https://one.example.com:444/npm/x"):  # fmt: skip
        assert config.headers(url) == {}
    assert base64.b64decode(config.headers("https://two.example.com/x")["Authorization"][6:]) == b"me:secret"
    with pytest.raises(InvalidInput, match="not base64") as caught:
        NpmConfig({"//h/:username": "me", "//h/:_password": "s3cr3t!"}).headers("https://h/x")
    assert "s3cr3t" not in str(caught.value)


def test_what_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: tmp_path / name for name in ("all", "own", "given")}
    for name, path in files.items():
        path.write_text(f"registry=https://{name}.example.com/\n{name}=${{TOKEN_OF_{name}}}\n")
    monkeypatch.setattr(npm_config, "_OF_ALL", (str(files["all"]),))
    monkeypatch.setenv("TOKEN_OF_all", "1")
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "none"))
    assert load({}).registry("x") == "https://all.example.com/"
    assert (load({})._values["all"], parse("a=${NO_SUCH_VARIABLE}")["a"]) == ("1", "${NO_SUCH_VARIABLE}")
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(files["own"]))
    assert load({}).registry("x") == "https://own.example.com/"
    monkeypatch.setenv("npm_config_registry", "https://variable.example.com")
    assert load({}).registry("x") == "https://variable.example.com/"
    assert load({"npmrc": files["given"]}).registry("x") == "https://given.example.com/"
    files["given"].write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load({"npmrc": files["given"]})
