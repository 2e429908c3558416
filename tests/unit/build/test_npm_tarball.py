"""npm tarballs: hostile ones are refused by the name of the entry, and nothing is written outside."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.build.npm_tarball import unpack
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.images import content
from stelae.images.tree import Tree

from .npm_registry import tarball


def entry(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def opened(folder: Path, data: bytes, *, size: int = 1 << 20, entries: int = 100) -> Tree:
    (folder / "package.tgz").write_bytes(data)
    return unpack(folder / "package.tgz", folder / "package.tar", size=size, entries=entries)


def many(*names: str, content: bytes = b"x") -> bytes:
    """Return a tarball of files whose names are written as they are."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            data = content * (number + 1)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tarball({"a": entry(tarfile.SYMTYPE, "/etc/passwd")}), "package/a: a symbolic link"),
        (tarball({"a": entry(tarfile.LNKTYPE, "package/b")}), "package/a: a hard link"),
        (tarball({"a": entry(tarfile.CHRTYPE)}), "package/a: a character device"),
        (tarball({"a": entry(tarfile.BLKTYPE)}), "package/a: a block device"),
        (tarball({"a": entry(tarfile.FIFOTYPE)}), "package/a: a FIFO"),
        (tarball({"a": entry(b"Z")}), "package/a: an entry of type Z"),
        (tarball({"a": entry(tarfile.GNUTYPE_SPARSE)}), "package/a: sparse files"),
        (many("package/../../etc/passwd"), "package/../../etc/passwd: not a path"),
        (many("../x"), "../x: not a path"),
        (many("/etc/passwd"), "/etc/passwd: not a path"),
        (many(".."), "..: not a path"),
        (many("."), ".: not a path"),
        (many("package/a", "other/b"), "other/b: not below package"),
        (many("package"), "package: a file beside"),
        (many("package/a", "package/a"), "package/a: the file is there twice"),
        (many("package/a", "package/./a"), "package/./a: the file is there twice"),
        (many("package/a", "package/a/b"), "package/a/b: its parent a is not a folder"),
        (many("package/a/b", "package/a"), "package/a: the path is there twice"),
        (many("package/.wh.a"), "package/.wh.a: a name in an image cannot start with .wh."),
        (many("package/.wh..wh..opq"), "package/.wh..wh..opq: a name in an image"),
        (many("package/" + "a" * 300), "a name is longer than 255 bytes"),
        (many("package/" + "a/" * 3000 + "a"), "the path is longer than 4095"),
        (many(*[f"package/{number}" for number in range(101)]), "package/100: more than 100 files"),
        (tarball({"a": b"\0" * (2 << 20)}), "unpacked it is larger than 1048576 bytes"),
        (b"not gzip", "not a gzip file"),
        (tarball({"a": b"1"})[:-20], "not a gzip file"),
        (gzip.compress(b"not a tar" * 100), "not a tar"),
    ],
    ids=lambda value: value if isinstance(value, str) else "tarball",
)
def test_the_entry_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        opened(tmp_path, data)
    assert words in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package.tar", "package.tgz"]


def test_what_real_packages_hold(tmp_path: Path) -> None:
    data = tarball({"./a": b"1", "b//c": b"2", "d*": b"3", "dir": entry(tarfile.DIRTYPE), "é": b"4"}, top="node/")
    tree = opened(tmp_path, data)
    assert {path.decode(): node.mode for path, node in tree.items()} == {
        "a": 0o644, "b": 0o755, "b/c": 0o644, "d": 0o755, "dir": 0o755, "é": 0o644,
    }  # fmt: skip
    assert content.read(tree[b"b/c"].content) == b"2"


def test_a_file_that_is_there_twice_the_same(tmp_path: Path) -> None:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("package/a", "package/./a"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"1"))
    assert list(opened(tmp_path, out.getvalue())) == [b"a"]


def test_setuid_owners_and_times_mean_nothing(tmp_path: Path) -> None:
    info = tarfile.TarInfo()
    info.mode, info.uid, info.mtime, info.uname = 0o6777, 1000, 99, "root"
    tree = opened(tmp_path, tarball({"a": info}))
    assert [(node.mode, node.uid, node.mtime) for node in tree.values()] == [(0o755, 0, 0)]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_gives_a_tree_or_a_typed_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = bytearray(gzip.decompress(tarball({"a": b"1" * 700, "b/c": b"2", "d" * 150: b"3"})))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("t")
    try:
        tree = opened(folder, gzip.compress(bytes(raw[: data.draw(st.integers(0, len(raw)))])))
        for node in tree.values():
            content.read(node.content)
    except StelaeError:
        pass
