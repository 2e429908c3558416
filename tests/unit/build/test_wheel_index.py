"""Wheels straight from an index: the same that pip takes, by digest; whatever is not plain is pip's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.build import pip_download, wheel_download, wheel_index
from stelae.build.pip_settings import Places, default_index, places
from stelae.build.requirements import Pinned
from stelae.domain.errors import InvalidInput

from .npm_registry import Registry, running
from .test_wheels import TARGET, wheel

TAGS = (
    "py3-none-any", "cp311-cp311-manylinux_2_17_x86_64", "cp311-abi3-manylinux_2_28_x86_64",
    "cp38-abi3-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_17_x86_64",
)  # fmt: skip


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pip that is configured nowhere."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "XDG_")) or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with running() as made:
        monkeypatch.setenv("PIP_INDEX_URL", f"{made.url}simple")
        yield made


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def offered(index: Registry, folder: Path, *tags: str, page: str = "simple/demo/", hashed: bool = True) -> Pinned:
    """Serve wheels of ``demo`` and return the requirement that all of them meet."""
    paths = [wheel(folder / "made", {"demo.py": tag.encode()}, tag) for tag in tags]
    for path in paths:
        index.files[f"/r/files/{path.name}"] = path.read_bytes()
    urls = [f"{index.url}files/{path.name}" + (f"#sha256={digest(path)}" if hashed else "") for path in paths]
    index.files[f"/r/{page}"] = "".join(f'<a href="{url}">x</a>' for url in urls).encode()
    return Pinned(name="demo", version="1.0", hashes=tuple(digest(path) for path in paths))


def fetched(pinned: Pinned, folder: Path) -> str:
    """Return the name of the wheel that is fetched, "" for none."""
    found = places(os.environ)
    assert found is not None
    work = folder / f"work-{len(list(folder.iterdir()))}"
    work.mkdir()
    result = wheel_index.fetch([pinned], TARGET, work, found)
    assert all(digest(path) in pinned.hashes for path in result.values())
    assert [path.name for path in work.iterdir()] == [path.name for path in result.values()]
    return result[pinned].name if result else ""


@pytest.mark.parametrize("tags", [TAGS, TAGS[1:], TAGS[2:], TAGS[3:], TAGS[:1] + TAGS[3:]])
def test_it_is_the_wheel_that_pip_takes(tags: tuple[str, ...], index: Registry, tmp_path: Path) -> None:
    pinned = offered(index, tmp_path, *tags)
    (by_pip,) = pip_download.download([pinned], TARGET, tmp_path, {})
    assert fetched(pinned, tmp_path) == by_pip.name


def test_pip_is_not_started_for_what_an_index_has(
    index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = offered(index, tmp_path, TAGS[0])
    elsewhere = Pinned(name="other", version="1.0", hashes=("0" * 64,))
    asked: list[str] = []

    def by_pip(wanted: list[Pinned], *_: object) -> tuple[Path, ...]:
        asked.extend(pinned.name for pinned in wanted)
        return (tmp_path / "other.whl",)

    monkeypatch.setattr(pip_download, "download", by_pip)
    (path,) = wheel_download.download([here], TARGET, tmp_path, {})
    assert digest(path) in here.hashes
    assert asked == []
    paths = wheel_download.download([here, elsewhere], TARGET, tmp_path, {})
    assert [path.name for path in paths] == ["demo-1.0-py3-none-any.whl", "other.whl"]
    assert asked == ["other"]


def test_credentials_are_for_pip_alone(index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip_download, "download", lambda wanted, *_: tuple(Path(item.name) for item in wanted))
    found = wheel_download.download([offered(index, tmp_path, TAGS[0])], TARGET, tmp_path, {"netrc": tmp_path})
    assert found == (Path("demo"),)
    assert index.asked == []


def test_json_and_pages_of_links(index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = offered(index, tmp_path, TAGS[0])
    files = [{"url": "../../files/demo-1.0-py3-none-any.whl", "hashes": {"sha256": pinned.hashes[0]}}]
    index.files["/r/simple/demo/"] = json.dumps({"files": files}).encode()
    assert fetched(pinned, tmp_path) == "demo-1.0-py3-none-any.whl"
    index.files["/r/links.html"] = b'<base href="files/"><a href="demo-1.0-py3-none-any.whl#sha256=%s">' % (
        pinned.hashes[0].encode()
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert fetched(pinned, tmp_path) == ""
    monkeypatch.setenv("PIP_FIND_LINKS", f"{index.url}links.html")
    assert fetched(pinned, tmp_path) == "demo-1.0-py3-none-any.whl"


def test_one_of_several_indexes_may_not_know_it(
    index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = offered(index, tmp_path, TAGS[0], page="more/demo/")
    assert fetched(pinned, tmp_path) == ""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index.url}more/ {index.url}third")
    assert fetched(pinned, tmp_path) == "demo-1.0-py3-none-any.whl"


def test_only_bytes_of_the_lock_are_taken(index: Registry, tmp_path: Path) -> None:
    pinned = offered(index, tmp_path, TAGS[0])
    index.files["/r/files/demo-1.0-py3-none-any.whl"] += b"evil"
    assert fetched(pinned, tmp_path) == ""
    with pytest.raises(InvalidInput, match="another digest"):
        wheel_download.download([pinned], TARGET, tmp_path, {})


@pytest.mark.parametrize(
    "page",
    [
        b"", b"\xff\xfe{", b"{", b'{"files": 1}', b'{"files": [{}]}', b"<a href='http://[bad/demo-1.0-py3-none-any.whl'>",
        b'<a href="%2e%2e%2fdemo-1.0-py3-none-any.whl#sha256=00">', b'<a href="demo%00-1.0-py3-none-any.whl">',
        b'<a href="demo-1.0-py3-none-any.whl#sha256=00">', b'<a href="demo-1.0.tar.gz">', b'<a href="demo.whl">',
        b'<a href="demo-1.x-py3-none-any.whl">', b'<a href="ftp://h/demo-1.0-py3-none-any.whl">',
        b'<a href="demo-2.0-py3-none-any.whl">', b'<a href="other-1.0-py3-none-any.whl">',
    ],
)  # fmt: skip
def test_what_is_no_use_is_left_to_pip(page: bytes, index: Registry, tmp_path: Path) -> None:
    pinned = offered(index, tmp_path, TAGS[0])
    index.files["/r/simple/demo/"] = page
    assert fetched(pinned, tmp_path) == ""


def test_links_without_a_digest(index: Registry, tmp_path: Path) -> None:
    pinned = offered(index, tmp_path, TAGS[0], TAGS[3], hashed=False)
    (by_pip,) = pip_download.download([pinned], TARGET, tmp_path, {})
    assert fetched(pinned, tmp_path) == by_pip.name
    only = replace(pinned, hashes=pinned.hashes[:1])
    assert fetched(only, tmp_path) == "", "the best one is not wanted: pip says so"
    page, name = index.files["/r/simple/demo/"], b"py3-none-any.whl"
    index.files["/r/simple/demo/"] = page.replace(name, name + b"#sha256=" + pinned.hashes[0].encode())
    (tmp_path / "again").mkdir()
    (by_pip,) = pip_download.download([pinned], TARGET, tmp_path / "again", {})
    assert by_pip.name.endswith("py3-none-any.whl")
    assert fetched(pinned, tmp_path) == by_pip.name, "what has a wanted digest goes first"


def test_the_python_that_a_wheel_asks_for(index: Registry, tmp_path: Path) -> None:
    pinned = offered(index, tmp_path, TAGS[0])
    page = index.files["/r/simple/demo/"]
    for python, taken in (("&gt;=3.11", True), ("&gt;=3.12", False), ("nonsense", True)):
        index.files["/r/simple/demo/"] = page.replace(b"<a ", f'<a data-requires-python="{python}" '.encode())
        assert bool(fetched(pinned, tmp_path)) is taken


def test_an_index_that_does_not_answer_is_asked_once(index: Registry, tmp_path: Path) -> None:
    pinned = offered(index, tmp_path, TAGS[0])
    index.failures = [503]
    assert fetched(pinned, tmp_path) == ""
    assert len(index.asked) == 1


def settings(folder: Path, files: Mapping[str, str], **environment: str) -> Places | None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    where = {"HOME": str(folder), "XDG_CONFIG_DIRS": str(folder / "xdg"), "PATH": "/bin", **environment}
    return places(where, prefix=str(folder / "venv"))


MINE = "https://mine.example/simple"


def test_settings_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stelae.build.pip_settings._SYSTEM", tmp_path / "etc")
    assert default_index().startswith("https://")
    assert settings(tmp_path, {}) == Places(indexes=(default_index(),), pages=())
    user = ".config/pip/pip.conf"
    assert settings(tmp_path, {user: f"[global]\nindex_url = {MINE}\ntimeout = 5\n"}) == Places(
        indexes=(MINE,), pages=()
    )
    more = {"venv/pip.conf": f"[install]\nindex-url = {MINE}/no\n[download]\nextra-index-url = {MINE}/b\n  {MINE}/c"}
    assert settings(tmp_path, more) == Places(indexes=(MINE, f"{MINE}/b", f"{MINE}/c"), pages=())
    found = settings(tmp_path, {}, PIP_INDEX_URL=f"{MINE}/d", PIP_EXTRA_INDEX_URL="", PIP_CERT="/ca.pem")
    assert found == Places(indexes=(f"{MINE}/d", f"{MINE}/b", f"{MINE}/c"), pages=(), cert=Path("/ca.pem"))
    own = {"own.conf": f"[global]\nno-index = yes\nfind-links = {MINE}/links.html"}
    found = settings(tmp_path, own, PIP_CONFIG_FILE=str(tmp_path / "own.conf"))
    assert found == Places(indexes=(), pages=(f"{MINE}/links.html",))
    assert settings(tmp_path, {}, PIP_CONFIG_FILE=os.devnull) == Places(indexes=(default_index(),), pages=())


@pytest.mark.parametrize(
    "environment",
    [
        {"PIP_INDEX_URL": "file:///srv/simple"}, {"PIP_INDEX_URL": "https://me:secret@mine.example/simple"},
        {"PIP_INDEX_URL": "http://mine.example/simple"}, {"PIP_INDEX_URL": "http://[bad"},
        {"PIP_FIND_LINKS": "/opt/wheels"}, {"PIP_PROXY": "http://proxy:3128"}, {"PIP_TRUSTED_HOST": "mine.example"},
        {"PIP_NO_INDEX": "perhaps"}, {"PIP_CONSTRAINT": "c.txt"}, {"PIP_CLIENT_CERT": "me.pem"},
        {"PIP_NO_BINARY": ":all:"}, {"PIP_KEYRING_PROVIDER": "subprocess"}, {"NETRC": "/x"}, {"PIP_UNKNOWN": "1"},
    ],
)  # fmt: skip
def test_what_pip_alone_can_tell(environment: dict[str, str], tmp_path: Path) -> None:
    assert settings(tmp_path, {}, **{"PIP_CONFIG_FILE": os.devnull, **environment}) is None


@pytest.mark.parametrize("name", [".netrc", "_netrc"])
def test_a_file_of_credentials_is_read_by_pip(name: str, tmp_path: Path) -> None:
    assert settings(tmp_path, {name: ""}, PIP_CONFIG_FILE=os.devnull) is None


def test_a_damaged_file_is_left_to_pip(tmp_path: Path) -> None:
    assert settings(tmp_path, {"venv/pip.conf": "index-url"}) is None
