"""The file tree: what can be in it, and that diff and merge undo each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.errors import Failed, InvalidInput
from stelae.images.content import Slice, read, same
from stelae.images.tree import WHITEOUT, Kind, Limits, Node, Tree, directory, file, symlink


def link(target: bytes) -> Node:
    return Node(kind=Kind.LINK, target=target)


def tree_of(text: str) -> Tree:
    """Return a tree of words: ``a/b=x`` a file, ``a/`` a folder, ``a->b`` a symbolic link, ``-a`` a whiteout,
    ``a!`` an opaque folder, ``a@b`` a hard link."""
    tree = Tree()
    for word in text.split():
        data = word.encode()
        if word.startswith("-"):
            tree.add(data[1:], WHITEOUT)
        elif word.endswith("!"):
            tree.make_opaque(data[:-1])
        elif word.endswith("/"):
            tree.add(data[:-1], directory())
        elif "->" in word:
            tree.add(*(f(x) for f, x in zip((bytes, symlink), data.split(b"->"), strict=True)))
        elif "@" in word:
            path, _, target = data.partition(b"@")
            tree.add(path, link(target))
        else:
            path, _, content = data.partition(b"=")
            tree.add(path, file(content))
    return tree


def words(tree: Tree) -> str:
    """Return files and links of *tree* as words, in order; folders only when they are empty."""
    found = []
    for path, node in tree.items():
        name = path.decode()
        match node.kind:
            case Kind.FILE:
                found.append(f"{name}={read(node.content).decode()}")
            case Kind.SYMLINK:
                found.append(f"{name}->{node.target.decode()}")
            case Kind.LINK:
                found.append(f"{name}@{node.target.decode()}")
            case Kind.WHITEOUT:
                found.append(f"-{name}")
            case Kind.DIRECTORY if node.opaque:
                found.append(f"{name}!")
            case Kind.DIRECTORY if not tree.children(path):
                found.append(f"{name}/")
    return " ".join(found)


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/etc", b"..", b"a/../b", b"a/..", b".", b"./a", b"a/./b", b"a//b", b"a/", b"a\0b",
     b"x" * 256, b"x/" * 2100 + b"x", b".wh.a", b"a/.wh..wh..opq", b"a/.wh.b/c"],
)  # fmt: skip
def test_paths_that_cannot_be(path: bytes) -> None:
    tree = Tree()
    with pytest.raises(InvalidInput):
        tree.add(path, file(b""))
    with pytest.raises(InvalidInput):
        tree.put(path, file(b""))
    assert len(tree) == 0


@pytest.mark.parametrize(
    "node",
    [file(b"", 0o10000), file(b"", -1), file(b"", uid=-1), file(b"", gid=2**32 - 1), symlink(b""), symlink(b"a\0b"),
     symlink(b"x" * 4096), link(b"missing"), link(b"d"), link(b"/etc/passwd"), link(b"../d/f"),
     Node(kind=Kind.FILE, xattrs=((b"trusted.overlay.redirect", b"/etc"),)),
     Node(kind=Kind.FILE, xattrs=((b"security.selinux", b"x"),)),
     Node(kind=Kind.SYMLINK, target=b"a", xattrs=((b"user.a", b"x"),)),
     Node(kind=Kind.FILE, xattrs=((b"user.b", b""), (b"user.a", b""))),
     Node(kind=Kind.FILE, xattrs=((b"user.a", b"x" * 70_000),))],
)  # fmt: skip
def test_nodes_that_cannot_be(node: Node) -> None:
    tree = tree_of("d/f=1")
    with pytest.raises(InvalidInput, match="a/new"):
        tree.add(b"a/new", node)
    assert b"a/new" not in tree


def test_parents_are_made_and_may_be_given_later_once() -> None:
    tree = tree_of("a/b/c=1")
    assert tree[b"a"] == tree[b"a/b"] == directory(0o755)
    tree.add(b"a", directory(0o1777, uid=5))
    assert tree[b"a"].uid == 5
    with pytest.raises(InvalidInput, match="twice"):
        tree.add(b"a", directory())


@pytest.mark.parametrize("taken", ["a=1", "a->/etc", "-a"])
def test_nothing_goes_below_what_is_no_folder(taken: str) -> None:
    tree = tree_of(taken)
    with pytest.raises(InvalidInput, match="not a folder"):
        tree.add(b"a/b/c", file(b""))
    assert len(tree) == 1


def test_a_taken_path_is_refused_and_put_replaces_it() -> None:
    tree = tree_of("a/b=1 a/c=2")
    for node in (file(b""), symlink(b"x"), WHITEOUT):
        with pytest.raises(InvalidInput, match="twice"):
            tree.add(b"a/b", node)
        with pytest.raises(InvalidInput, match="twice"):
            tree.add(b"a", node)
    tree.put(b"a", directory(0o700))
    assert words(tree) == "a/b=1 a/c=2"
    for bad in (link(b"a/b"), link(b"missing"), file(b"", -1)):
        with pytest.raises(InvalidInput):
            tree.put(b"a", bad)
    assert words(tree) == "a/b=1 a/c=2"
    tree.put(b"a", symlink(b"b"))
    assert words(tree) == "a->b"
    assert tree.size == 0


def test_order_is_by_bytes() -> None:
    tree = tree_of("b=1 a-b=1 a/b=1 a.b=1 B=1")
    assert list(tree) == [b"B", b"a", b"a-b", b"a.b", b"a/b", b"b"]
    assert tree.children(b"") == [b"B", b"a", b"a-b", b"a.b", b"b"]
    assert tree.children(b"a") == [b"a/b"]


def test_a_file_lives_on_under_its_other_names() -> None:
    tree = tree_of("a=text b@a c@b d@a")
    assert tree.size == 4
    assert [tree[name].target for name in (b"b", b"c", b"d")] == [b"a"] * 3
    tree.remove(b"a")
    assert words(tree) == "b=text c@b d@b"
    assert tree.size == 4
    tree.put(b"b", file(b"other"))
    assert words(tree) == "b=other c=text d@c"
    with pytest.raises(KeyError):
        tree.remove(b"a")


def test_limits() -> None:
    tree = Tree(Limits(entries=3, size=10))
    tree.add(b"a/b", file(b"x" * 10))
    with pytest.raises(InvalidInput, match="larger than 10 bytes"):
        tree.add(b"c", file(b"y"))
    tree = Tree(Limits(entries=3, size=10))
    with pytest.raises(InvalidInput, match="more than 3"):
        tree.add(b"a/b/c/d", file(b""))


def test_a_slice_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read(Slice(path, 3, 4)) == b"3456"
    assert same(Slice(path, 3, 4), b"3456")
    assert not same(Slice(path, 3, 4), b"345x")
    with pytest.raises(Failed, match="shorter"):
        read(Slice(path, 8, 4))


@pytest.mark.parametrize(
    ("lower", "upper", "seen"),
    [
        ("a=1 b=1", "b=2 c=3", "a=1 b=2 c=3"),
        ("a=1 d/x=1 d/y=1", "-a -d/x", "d/y=1"),
        ("d/x=1 d/y=1", "d! d/z=1", "d! d/z=1"),
        ("d/x=1", "-d", ""),
        ("d/x=1", "d=file", "d=file"),
        ("d=file", "d/x=1", "d/x=1"),
        ("bin->usr/bin usr/bin/a=1", "bin/b=1", "bin/b=1 usr/bin/a=1"),
        ("a=1 b@a", "a=2", "a=2 b=1"),
        ("a=1 b@a", "b=2", "a=1 b=2"),
        ("a=1", "z=9 a@z", "a@z z=9"),
        ("a=1", "-missing", "a=1"),
    ],
)
def test_merge_shows_what_overlayfs_shows(lower: str, upper: str, seen: str) -> None:
    below = tree_of(lower)
    merged = below.merge(tree_of(upper))
    assert words(merged) == seen.replace("d!", "").strip()
    assert words(below) == words(tree_of(lower))


@pytest.mark.parametrize(
    ("lower", "upper", "layer"),
    [
        ("a=1", "a=1", ""),
        ("a=1", "a=2", "a=2"),
        ("d/a=1 d/b=1", "d/a=1", "-d/b"),
        ("d/e/a=1", "x=1", "-d x=1"),
        ("d/e/a=1", "d=1", "d=1"),
        ("a=1 b@a", "a=1 b=1", ""),
        ("a=1", "a=1 b@a", "b=1"),
        ("", "a=1 b@a", "a=1 b@a"),
    ],
)
def test_diff_is_the_least_layer(lower: str, upper: str, layer: str) -> None:
    assert words(Tree.diff(tree_of(lower), tree_of(upper))) == layer


def test_diff_keeps_the_attributes_of_parents() -> None:
    lower = Tree()
    lower.add(b"tmp", directory(0o1777, uid=3))
    upper = lower.copy()
    upper.add(b"tmp/a", file(b""))
    layer = Tree.diff(lower, upper)
    assert layer[b"tmp"] == directory(0o1777, uid=3)
    assert Tree.diff(upper, lower)[b"tmp"] == directory(0o1777, uid=3)


NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
NODES = st.one_of(
    st.sampled_from([directory(), directory(0o700), symlink(b"a"), file(b""), file(b"1"), file(b"2", 0o755)]),
    PATHS.map(link),
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = Tree()
    for path, node in draw(st.lists(st.tuples(PATHS, NODES), max_size=12)):
        try:
            tree.put(path, node)
        except InvalidInput:
            continue
    return tree


def resolved(tree: Tree) -> dict[bytes, Node]:
    return {path: tree.resolve(path) for path in tree}


@given(trees(), trees())
def test_a_diff_laid_on_the_lower_tree_shows_the_upper(lower: Tree, upper: Tree) -> None:
    layer = Tree.diff(lower, upper)
    merged = lower.merge(layer)
    assert resolved(merged) == resolved(upper)
    assert merged.size == sum(node.size for node in merged.values())
    assert len(Tree.diff(upper, merged)) == 0


@given(trees())
def test_every_hard_link_names_a_file(tree: Tree) -> None:
    for node in tree.values():
        if node.kind is Kind.LINK:
            assert tree[node.target].kind is Kind.FILE
