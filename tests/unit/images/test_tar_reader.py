"""Hostile layers: what a tar can claim, and that none of it gets in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.images.layer_tar import read_layer
from stelae.images.tree import Kind, Limits, directory
from tests.unit.images.test_tree import words


def tar(path: Path, *entries: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form, errors="surrogateescape") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size) if entry.isreg() else None)
    return path


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, pax: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.pax_headers = pax or {}
    return info


F, D, S, L = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("../evil")], "not a path|empty part"),
        ([entry("a/../../evil")], "empty part"),
        ([entry("/etc/cron.d/evil")], "not a path inside an image"),
        ([entry("//evil")], "not a path inside an image"),
        ([entry("a//b")], "empty part"),
        ([entry(".")], "not a path inside an image"),
        ([entry("", S, "x")], "not a path inside an image"),
        ([entry("a", S, "/etc"), entry("a/evil")], "not a folder"),
        ([entry("a/b"), entry("a", S, "/etc")], "twice"),
        ([entry("a"), entry("a/b")], "not a folder"),
        ([entry("a"), entry("a")], "twice"),
        ([entry("a"), entry("./a")], "twice"),
        ([entry("a", D), entry("a/", D)], "twice"),
        ([entry(".wh.a"), entry(".wh.a")], "twice"),
        ([entry("a", L, "/etc/passwd")], "hard link"),
        ([entry("a", L, "../../etc/passwd")], "hard link"),
        ([entry("a", L, "b"), entry("b")], "hard link"),
        ([entry("b", S, "/etc/passwd"), entry("a", L, "b")], "hard link"),
        ([entry("b", D), entry("a", L, "b")], "hard link"),
        ([entry("a", L, "a")], "hard link"),
        ([entry("dev", tarfile.CHRTYPE)], "character device"),
        ([entry("dev", tarfile.BLKTYPE)], "block device"),
        ([entry("pipe", tarfile.FIFOTYPE)], "FIFO"),
        ([entry("odd", b"Z")], "type"),
        ([entry("s", tarfile.GNUTYPE_SPARSE)], "sparse"),
        ([entry("s", pax={"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999999"})], "sparse"),
        ([entry("x" * 256)], "longer than 255"),
        ([entry("d/" * 2100 + "x")], "longer than 4095"),
        ([entry("a", S, "x" * 5000)], "too long"),
        ([entry("a", S, "")], "empty"),
        ([entry("a", pax={"path": "../evil"})], "empty part"),
        ([entry("a", pax={"size": "-5"})], "not a number"),
        ([entry("a", pax={"size": "9" * 40})], "not a number"),
        ([entry("a", pax={"size": "99999999999"})], "ends before"),
        ([entry("a", pax={"uid": "4294967295"})], "owner"),
        ([entry("a", pax={"SCHILY.xattr.user.x": "v" * 70_000})], "larger than"),
        ([entry("a", pax={"comment": "v" * 300_000})], "a header of"),
        ([entry(".wh..wh..opq")], "root"),
        ([entry("a/.wh..wh.plnk")], "whiteout of a whiteout"),
        ([entry(".wh.a", S, "b")], "regular file"),
        ([entry("a"), entry("a/.wh..wh..opq")], "folder"),
        ([entry(".wh...")], "empty part"),
        ([entry(".wh.")], "empty part|not a path"),
        ([entry("a/.wh.b/c")], "start with .wh."),
    ],
)
def test_hostile_entries_are_refused(tmp_path: Path, entries: list[tarfile.TarInfo], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_layer(tar(tmp_path / "l.tar", *entries))


def test_the_error_names_the_entry(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_layer(tar(tmp_path / "l.tar", entry("fine"), entry("a/../\x1b[31m")))
    assert caught.value.where == "a/../\\x1b[31m"


@pytest.mark.parametrize(
    ("entries", "seen"),
    [
        ([entry("./", D), entry("./a/", D), entry("./a/b")], "a/b="),
        ([entry("a/b"), entry("a", D)], "a/b="),
        ([entry(".wh.a"), entry("a")], "a="),
        ([entry("a"), entry(".wh.a")], "a="),
        ([entry(".wh.d"), entry("d", D), entry("d/x")], "d! d/x="),
        ([entry("d", D), entry("d/x"), entry(".wh.d")], "d! d/x="),
        ([entry("d/x"), entry("d/.wh..wh..opq"), entry("d/y")], "d! d/x= d/y="),
        ([entry("d/.wh..wh..opq"), entry("d", D)], "d!"),
        ([entry("d/.wh.x")], "-d/x"),
        ([entry("a"), entry("b", L, "./a"), entry("c", L, "b")], "a= b@a c@a"),
        ([entry("a", pax={"mtime": "1.5", "atime": "2", "LIBARCHIVE.xattr.x": "y"})], "a="),
        ([entry("a" * 200)], "a" * 200 + "="),
    ],
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_other_writers_do(tmp_path: Path, entries: list[tarfile.TarInfo], seen: str, form: int) -> None:
    assert words(read_layer(tar(tmp_path / "l.tar", *entries, form=form))) == seen


def test_names_that_are_not_text(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        tree = read_layer(tar(tmp_path / "l.tar", entry(name), entry("l", L, name), form=form))
        assert list(tree) == [b"caf\xe9", b"l"]
        assert tree[b"l"].target == b"caf\xe9"


def test_attributes_of_a_host_stay_out(tmp_path: Path) -> None:
    attributes = {
        f"SCHILY.xattr.{name}": "v"
        for name in ("user.a", "security.capability", "security.selinux", "trusted.overlay.opaque",
                     "user.overlay.redirect", "system.posix_acl_access")
    }  # fmt: skip
    tree = read_layer(tar(tmp_path / "l.tar", entry("a", pax=attributes)))
    assert tree[b"a"].xattrs == ((b"security.capability", b"v"), (b"user.a", b"v"))


def test_modes_and_times(tmp_path: Path) -> None:
    info = entry("a", size=3)
    info.mode, info.mtime, info.uid = 0o104755, 7, 9
    tree = read_layer(tar(tmp_path / "l.tar", info, entry("d", D)))
    assert (tree[b"a"].mode, tree[b"a"].mtime, tree[b"a"].uid, tree[b"a"].size) == (0o4755, 7, 9, 3)
    assert tree[b"d"] == directory()


def test_devices_can_be_left_out(tmp_path: Path) -> None:
    path = tar(tmp_path / "l.tar", entry("dev/null", tarfile.CHRTYPE), entry("a"), entry("p", tarfile.FIFOTYPE))
    assert list(read_layer(path, skip_devices=True)) == [b"a"]
    with pytest.raises(InvalidInput):
        read_layer(tar(tmp_path / "l.tar", entry("a", S, "x"), entry("a/n", tarfile.CHRTYPE)))


def test_limits(tmp_path: Path) -> None:
    path = tar(tmp_path / "l.tar", entry("a", size=600), entry("b", size=600))
    with pytest.raises(InvalidInput, match="larger than 1000"):
        read_layer(path, limits=Limits(entries=5, size=1000))
    with pytest.raises(InvalidInput, match="more than 1"):
        read_layer(path, limits=Limits(entries=1))


def raw(path: Path, change: Callable[[bytearray], object]) -> Path:
    data = bytearray(tar(path, entry("a", size=600), form=tarfile.USTAR_FORMAT).read_bytes())
    change(data)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    return path


def test_numbers_below_zero(tmp_path: Path) -> None:
    negative = b"\xff" * 11 + b"\xfb"
    for at in (124, 108, 116, 100):
        length = 12 if at == 124 else 8
        with pytest.raises(InvalidInput, match="negative"):
            read_layer(
                raw(
                    tmp_path / "l.tar",
                    lambda data, at=at, n=length: data.__setitem__(slice(at, at + n), negative[-n:]),
                )
            )


def test_a_size_beyond_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="ends before"):
        read_layer(raw(tmp_path / "l.tar", lambda data: data.__setitem__(slice(124, 136), b"77777777777\0")))


@pytest.mark.parametrize("cut", [100, 512, 512 + 599])
def test_a_tar_that_was_cut(tmp_path: Path, cut: int) -> None:
    path = raw(tmp_path / "l.tar", lambda data: None)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidInput):
        read_layer(path)


def test_a_checksum_that_is_wrong(tmp_path: Path) -> None:
    path = tar(tmp_path / "l.tar", entry("a"))
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="not a tar"):
        read_layer(path)


def test_one_block_of_zeros_is_no_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "l.tar", entry("a"))
    hidden = path.read_bytes()[:512]
    path.write_bytes(bytes(512) + hidden + bytes(1024))
    with pytest.raises(InvalidInput, match="not a tar"):
        read_layer(path)


@given(data=st.binary(max_size=2048))
def test_noise_is_refused_or_empty(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "l.tar"
    path.write_bytes(data)
    try:
        tree = read_layer(path)
    except InvalidInput:
        return
    assert len(tree) == 0


@given(at=st.integers(0, 4 * 512 - 1), value=st.integers(0, 255))
def test_a_changed_byte_never_gets_past_the_tree(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "l.tar"
    data = bytearray(
        tar(path, entry("a/b", pax={"SCHILY.xattr.user.x": "1", "path": "a/ü"}), entry("c")).read_bytes()
    )
    data[at] = value
    path.write_bytes(data)
    try:
        tree = read_layer(path)
    except InvalidInput:
        return
    for name, node in tree.items():
        assert not name.startswith((b"/", b"../"))
        assert node.kind in Kind


def test_a_global_header_may_comment_but_not_name(tmp_path: Path) -> None:
    def with_global(**records: str) -> Path:
        with tarfile.open(tmp_path / "l.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=records) as archive:
            archive.addfile(entry("a"))
        return tmp_path / "l.tar"

    assert list(read_layer(with_global(comment="commit"))) == [b"a"]
    with pytest.raises(InvalidInput, match="global"):
        read_layer(with_global(path="b"))
