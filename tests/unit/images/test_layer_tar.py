"""The tar of a layer: one form, that others read, and that comes back as the same tree."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given

from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed
from stelae.images.content import Slice
from stelae.images.layer_tar import read_layer, write_layer
from stelae.images.tree import WHITEOUT, Kind, Node, Tree, directory, file, symlink
from tests.unit.images.test_tree import resolved, tree_of, trees

MTIME = 1_700_000_000


def tar_of(tree: Tree) -> bytes:
    out = io.BytesIO()
    digest, size = write_layer(tree, out, mtime=MTIME)
    assert digest == digest_of(out.getvalue())
    assert size == len(out.getvalue())
    return out.getvalue()


def members(tree: Tree) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar_of(tree))) as archive:
        return archive.getmembers()


def test_the_form_is_fixed() -> None:
    """A change of these bytes is a change of the builder's format."""
    tree = tree_of("etc/b=hello etc/a->b usr/x=1 usr/y@usr/x -gone srv!")
    tree.add(b"long/" + b"n" * 120, file(b"z", 0o4755, uid=3_000_000, gid=5))
    tree.add(b"cap", Node(kind=Kind.FILE, mode=0o755, xattrs=((b"security.capability", b"\1\0\0\2\n=\xff"),)))
    assert digest_of(tar_of(tree)) == "sha256:a7f8666bbd2644cac833371c0c09934a6f3c15e31b13e6928bf5a6cc439b4259"


def test_entries_are_plain_and_in_order() -> None:
    found = members(tree_of("b/c=1 b/!x=1 -b/d b! a=2 e->b"))
    assert [m.name for m in found] == ["a", "b", "b/.wh..wh..opq", "b/.wh.d", "b/!x", "b/c", "e"]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.devmajor, m.devminor) for m in found} == {
        (0, 0, "", "", MTIME, 0, 0)
    }
    assert all(not m.pax_headers for m in found)
    assert [m.type for m in found if m.name in ("b", "e")] == [tarfile.DIRTYPE, tarfile.SYMTYPE]


def test_the_first_name_in_order_is_the_file_and_the_others_are_links() -> None:
    found = members(tree_of("z=text a@z m@z"))
    assert [(m.name, m.type, m.linkname) for m in found] == [
        ("a", tarfile.REGTYPE, ""), ("m", tarfile.LNKTYPE, "a"), ("z", tarfile.LNKTYPE, "a"),
    ]  # fmt: skip
    assert tar_of(tree_of("z=text a@z m@z")) == tar_of(tree_of("a=text m@a z@a"))
    assert tar_of(tree_of("z= a@z")) == tar_of(tree_of("a= z@a"))


@pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 156, 200, 255])
def test_long_names_come_back(tmp_path: Path, length: int) -> None:
    tree = Tree()
    tree.add(b"d" * length, directory())
    tree.add(b"d" * length + b"/" + b"f" * length, file(b"1"))
    tree.add(b"s", symlink(b"t" * length))
    check_round_trip(tree, tmp_path / "l.tar")
    assert [m.name for m in members(tree)] == [os.fsdecode(path) for path in tree]


@pytest.mark.parametrize("value_length", [*range(60, 110), 990, 1000])
def test_the_length_of_a_pax_record_counts_itself(tmp_path: Path, value_length: int) -> None:
    tree = Tree()
    tree.add(b"a", Node(kind=Kind.FILE, xattrs=((b"user.a", b"v" * value_length), (b"user.b", b"\n=\0\xff"))))
    check_round_trip(tree, tmp_path / "l.tar")


def check_round_trip(tree: Tree, path: Path) -> None:
    digest, _ = write_layer(tree, path, mtime=MTIME)
    back = read_layer(path)
    assert set(back) == set(tree)
    assert write_layer(back, io.BytesIO(), mtime=MTIME)[0] == digest
    for name in tree:
        one, other = tree.resolve(name), back.resolve(name)
        assert (one.kind, one.mode, one.uid, one.gid, one.target, one.xattrs, one.opaque, one.size) == (
            other.kind, other.mode, other.uid, other.gid, other.target, other.xattrs, other.opaque, other.size
        )  # fmt: skip


def test_owners_and_names_of_every_kind_come_back(tmp_path: Path) -> None:
    tree = Tree()
    for number, name in enumerate([b"plain", "ü".encode(), b"\xff\xfe", b"new\nline", b" ", b"\\", b"-"]):
        tree.add(name, file(b"x" * (510 + number), uid=2**21 - 2 + number, gid=2**32 - 2))
    tree.add(b"d", directory(0o7777))
    check_round_trip(tree, tmp_path / "l.tar")


@given(tree=trees())
def test_every_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    path = tmp_path_factory.mktemp("layer") / "l.tar"
    check_round_trip(tree, path)
    assert Tree.diff(tree, read_layer(path)).keys() == set()
    assert len(resolved(tree)) == len(tree)


def test_contents_beyond_the_buffer(tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(3_000_001))
    tree = Tree()
    tree.add(b"a", file(Slice(source, 1, 3_000_000)))
    tree.add(b"b", file(b"end"))
    check_round_trip(tree, tmp_path / "l.tar")
    with tarfile.open(tmp_path / "l.tar") as archive:
        member = archive.extractfile("a")
        assert member is not None
        assert member.read() == source.read_bytes()[1:]


def test_a_file_that_became_shorter_fails(tmp_path: Path) -> None:
    source = tmp_path / "short"
    source.write_bytes(b"12")
    tree = Tree()
    tree.add(b"a", file(Slice(source, 0, 3)))
    with pytest.raises(Failed, match="shorter"):
        write_layer(tree, io.BytesIO(), mtime=MTIME)


def test_whiteouts_come_first_whatever_the_names(tmp_path: Path) -> None:
    tree = tree_of("d/!a=1 d/-b=1 d/.a=1")
    tree.add(b"d/~", WHITEOUT)
    tree.add(b"d/\x01", WHITEOUT)
    names = [m.name for m in members(tree)]
    assert names[:3] == ["d", "d/.wh.\x01", "d/.wh.~"]
    check_round_trip(tree, tmp_path / "l.tar")
