"""What differs between two trees, in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stelae.images.compare import compare
from stelae.images.content import CHUNK, Content, Slice
from stelae.images.tree import Kind, Node, Tree, directory, file, symlink


def tree(node: Node) -> Tree:
    made = Tree()
    made.add(b"etc", directory())
    made.add(b"etc/target", file(b"t"))
    made.add(b"etc/it", node)
    return made


@pytest.mark.parametrize(
    ("new", "how"),
    [
        (file(b"same"), ()),
        (file(b"same", 0o755), ("mode 0644, now 0755",)),
        (file(b"same", uid=1, gid=2), ("owner 0:0, now 1:2",)),
        (replace(file(b"same"), mtime=7), ("time 0, now 7",)),
        (file(b"samx"), ("content from byte 4",)),
        (file(b"sam"), ("size 4, now 3", "content from byte 4")),
        (file(b""), ("size 4, now 0", "content from byte 1")),
        (replace(file(b"same"), xattrs=((b"user.a", b"1"),)), ("extended attribute user.a",)),
        (symlink(b"x"), ("was a file, now a symlink",)),
        (directory(), ("was a file, now a directory",)),
        (Node(kind=Kind.LINK, target=b"etc/target"), ("was a file, now a link",)),
    ],
)
def test_each_property_is_named(new: Node, how: tuple[str, ...]) -> None:
    found = compare(tree(file(b"same")), tree(new))
    assert [(item.path, item.how) for item in found] == ([("etc/it", how)] if how else [])


def test_links_name_their_targets() -> None:
    one, other = tree(symlink(b"a")), tree(symlink(b"b"))
    assert [item.how for item in compare(one, other)] == [("target a, now b",)]


def test_added_and_removed_paths_come_in_order() -> None:
    one, other = tree(file(b"x")), tree(file(b"x"))
    one.add(b"b/old", file(b""))
    other.add(b"a/new\xff", file(b""))
    assert [(item.path, item.how) for item in compare(one, other)] == [
        ("a", ("added",)), (r"a/new\xff", ("added",)), ("b", ("removed",)), ("b/old", ("removed",))
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_the_first_byte_that_differs_is_found_in_large_files(place: int, tmp_path: Path) -> None:
    data = bytearray(b"a" * (2 * CHUNK + 5))
    (tmp_path / "one").write_bytes(data)
    data[place] = 98
    (tmp_path / "other").write_bytes(b"shift" + data)
    one: Content = Slice(tmp_path / "one", 0, len(data))
    other: Content = Slice(tmp_path / "other", 5, len(data))
    assert [item.how for item in compare(tree(file(one)), tree(file(other)))] == [(f"content from byte {place + 1}",)]
