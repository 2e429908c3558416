"""Stages and copies, on bases that need no tool: what arrives, whose it is, and what is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.build.copy_layer import copied_tree
from stelae.domain.errors import InvalidInput
from stelae.domain.recipe import Copy
from stelae.images import content
from stelae.images.tree import Kind, Node, Tree, directory, file, symlink

from .repository import Repository
from .test_builder import oci_base
from .workshop import Workshop, spec

STAGED = """
copy = [{{ from = "build", path = "/app/out", to = "/opt/shop" }}]
files = ["serve"]

[image.stage.build]
base = "{base}"
files = {files}
"""


def staged(base: str, files: str = '["out"]', image: str = "") -> str:
    return spec(image + STAGED.format(base=base, files=files))


def test_what_is_copied_arrives_and_nothing_else(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    tree = Tree()
    tree.add(b"usr/bin/compiler", file(b"large"))
    base = oci_base(tmp_path / "base", tree)
    repository.write({"serve": "#!/bin/sh\n", "out/bin/run": "x", "out/data": "y", "secret.c": "z"})
    (repository.folder / "out/bin/run").chmod(0o755)
    repository.commit({"stelae.toml": staged(base)})
    result = workshop.build(repository)
    assert [layer.name for layer in result.layers] == ["system", "files", "copy"]
    found = workshop.tree(result.image.digest)
    own = {path.decode(): oct(found[path].mode) for path in found if path.startswith((b"opt", b"app", b"usr"))}
    assert own == {
        "app": "0o755", "app/serve": "0o644", "opt": "0o755", "opt/shop": "0o755", "opt/shop/bin": "0o755",
        "opt/shop/bin/run": "0o755", "opt/shop/data": "0o644",
    }  # fmt: skip
    assert any(line.startswith("build: base: ") for line in workshop.lines)


def test_a_stage_that_gives_the_same_files_changes_nothing_above(
    repository: Repository, workshop: Workshop, tmp_path: Path
) -> None:
    base = oci_base(tmp_path / "base", Tree())
    text = staged(base, '["out", "notes"]')
    repository.commit({"serve": "x", "out/data": "y", "notes": "1", "stelae.toml": text})
    first = workshop.build(repository)
    repository.commit({"notes": "2"})
    second = workshop.build(repository)
    assert second.image.digest == first.image.digest
    assert not second.created
    assert any(line.startswith("build: files: ") and "cached" not in line for line in workshop.lines)
    third = workshop.build(repository)
    assert all(layer.cached for layer in third.layers)
    assert [line for line in workshop.lines if "cached" not in line and ": 0 kB" not in line] == []
    repository.commit({"out/data": "z"})
    fourth = workshop.build(repository)
    assert [layer.name for layer in fourth.layers if not layer.cached] == ["files", "copy"]
    assert fourth.image.digest != first.image.digest
    assert fourth.layers[1].digest == first.layers[1].digest


def test_stages_copy_from_stages(repository: Repository, workshop: Workshop) -> None:
    text = spec("""
files = []
copy = [{ from = "second", path = "/b" }, { from = "first", path = "/app/one", to = "/c/one" }]

[image.stage.first]
base = "scratch"
files = ["one"]

[image.stage.second]
base = "scratch"
files = []
copy = [{ from = "first", path = "/app", to = "/b" }]
""")
    repository.commit({"one": "1", "two": "2", "stelae.toml": text})
    result = workshop.build(repository)
    assert [layer.name for layer in result.layers] == ["system", "copy"]
    tree = workshop.tree(result.image.digest)
    assert {path for path in tree if path.startswith((b"b", b"c", b"app"))} == {
        b"app", b"b", b"b/one", b"c", b"c/one"
    }  # fmt: skip
    assert workshop.leftovers() == []


def test_what_a_copy_cannot_find_is_named(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"serve": "x", "out/data": "y", "stelae.toml": staged("scratch").replace("app/out", "app/ut")})
    with pytest.raises(InvalidInput, match="the stage build has no /app/ut") as caught:
        workshop.build(repository)
    assert caught.value.where == "image.copy"


def test_a_pattern_of_files_that_nothing_matches(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"serve": "x", "out/data": "y", "stelae.toml": staged("scratch", '["out", "ouput"]')})
    with pytest.raises(InvalidInput, match="no file of the commit matches 'ouput'"):
        workshop.build(repository)


def test_files_and_exclude_go_together(repository: Repository, workshop: Workshop) -> None:
    text = spec('files = ["src", "*.txt"]\nexclude = ["test_*", "src/b.txt"]')
    files = {"src/a.py": "1", "src/test_a.py": "2", "src/b.txt": "3", "x/c.txt": "4", "other": "5"}
    repository.commit({**files, "stelae.toml": text})
    tree = workshop.tree(workshop.build(repository).image.digest)
    assert {path for path in tree if path.startswith(b"app/")} == {
        b"app/src", b"app/src/a.py", b"app/x", b"app/x/c.txt"
    }  # fmt: skip


def test_the_lock_names_each_stage(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    base = oci_base(tmp_path / "base", Tree())
    repository.commit({"serve": "x", "out/data": "y", "stelae.toml": staged(base)})
    text = workshop.builder.lock(workshop.send(repository)).text
    assert "[stage.build]" in text
    assert str(tmp_path / "base") in text.partition("[stage.build]")[2]
    repository.commit({"stelae.lock": text})
    result = workshop.build(repository)
    assert result.locked
    assert result.lock == text
    assert [item.name for item in result.inputs] == [str(tmp_path / "base")]
    repository.commit({"stelae.toml": staged(oci_base(tmp_path / "another", Tree()))})
    with pytest.raises(InvalidInput, match="base of stage build changed since it was locked"):
        workshop.build(repository)


def tree_of(**nodes: Node) -> Tree:
    tree = Tree()
    for path, node in sorted(nodes.items()):
        tree.add(path.replace("__", "/").encode(), node)
    return tree


def copied(stage: Tree, path: str, to: str, below: Tree | None = None) -> Tree:
    return copied_tree([(Copy(stage="s", path=path, to=to), stage)], below or Tree(), "image.copy")


def test_modes_stay_and_owners_become_root() -> None:
    stage = tree_of(
        app=directory(0o750, uid=5, gid=6), app__run=file(b"x", 0o4755, uid=7, gid=8), app__way=symlink(b"../run")
    )
    stage.put(b"app/run", Node(kind=Kind.FILE, mode=0o4755, uid=7, content=b"x", xattrs=((b"user.a", b"b"),)))
    found = copied(stage, "/app", "/srv/x")
    assert {path: (node.mode, node.uid, node.gid) for path, node in found.items()} == {
        b"srv": (0o755, 0, 0), b"srv/x": (0o750, 0, 0), b"srv/x/run": (0o4755, 0, 0), b"srv/x/way": (0o777, 0, 0)
    }  # fmt: skip
    assert found[b"srv/x/run"].xattrs == ((b"user.a", b"b"),)
    assert found[b"srv/x/way"].target == b"../run"


def test_hard_links_stay_where_both_names_are_copied() -> None:
    stage = tree_of(a__z=file(b"one"), b=file(b"two"))
    stage.add(b"a/y", Node(kind=Kind.LINK, target=b"a/z"))
    stage.add(b"a/x", Node(kind=Kind.LINK, target=b"b"))
    found = copied(stage, "/a", "/c")
    assert found[b"c/y"].target == b"c/z"
    assert (found[b"c/x"].kind, content.read(found[b"c/x"].content)) == (Kind.FILE, b"two")
    single = copied(stage, "/a/y", "/c")
    assert content.read(single[b"c"].content) == b"one"


def test_links_on_the_way_are_followed() -> None:
    stage = tree_of(usr__lib__so=file(b"x"), lib=symlink(b"usr/lib"))
    below = tree_of(usr__lib=directory(0o711, uid=3), lib=symlink(b"usr/lib"))
    found = copied(stage, "/lib/so", "/lib/other", below)
    assert {path: node.mode for path, node in found.items()} == {
        b"usr": 0o755, b"usr/lib": 0o711, b"usr/lib/other": 0o644
    }  # fmt: skip
    assert found[b"usr/lib"].uid == 3


@pytest.mark.parametrize(("path", "to"), [("/x/y/z", "/a"), ("/loop", "/a"), ("/x", "/file/inside")])
def test_what_cannot_be_copied(path: str, to: str) -> None:
    stage = tree_of(x=file(b"1"), loop=symlink(b"loop"))
    with pytest.raises(InvalidInput):
        copied(stage, path, to, tree_of(file=file(b"x")))


def test_later_copies_lie_over_earlier_ones() -> None:
    one, two = tree_of(d__a=file(b"1"), d__b=file(b"1")), tree_of(d__b=file(b"2"), d__c__d=file(b"2"))
    found = copied_tree(
        [(Copy(stage="one", path="/d", to="/t"), one), (Copy(stage="two", path="/d", to="/t"), two)], Tree(), "x"
    )
    assert {path: node.content for path, node in found.items() if node.kind is Kind.FILE} == {
        b"t/a": b"1", b"t/b": b"2", b"t/c/d": b"2"
    }  # fmt: skip
