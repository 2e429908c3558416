"""What differs between two images: every kind of change is told, and nothing that is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.attest.contents import Inspector
from stelae.attest.difference import Difference, FileChange, PackageChange, difference
from stelae.images.layout import Layout, image_of
from stelae.images.tree import WHITEOUT, Tree, directory, file, symlink
from tests.unit.attest import samples
from tests.unit.core.fixtures import WEB, WORKER


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout.open(tmp_path_factory.mktemp("difference") / "images")


def between(layout: Layout, old: list[Any], new: list[Any]) -> Difference:
    one, other = samples.image(layout, "old", *old), samples.image(layout, "new", *new)
    inspector = Inspector(layout, layout.folder.parent / "contents")
    return difference(layout, inspector, image_of(layout, one), image_of(layout, other))


def test_packages_that_were_added_removed_and_upgraded(layout: Layout) -> None:
    newer = samples.STATUS.replace(b"2024a-0", b"2024b-0")
    upper = samples.BASE | {b"var/lib/dpkg/status": newer}
    added = {b"app/node_modules/x/package.json": b'{"name": "x", "version": "1"}'}
    assert between(layout, [samples.BASE, samples.ABOVE], [upper, added]).packages == (
        PackageChange(kind="deb", name="tzdata", old="2024a-0", new="2024b-0"),
        PackageChange(kind="npm", name="@scope/thing", old="1.2.3", new=""),
        PackageChange(kind="npm", name="x", old="", new="1"),
        PackageChange(kind="pypi", name="flask-login", old="3.1.0", new=""),
    )


def test_a_package_in_several_versions(layout: Layout) -> None:
    def thing(*versions: str) -> dict[bytes, bytes]:
        return {
            f"node_modules/d{i}/package.json".encode(): f'{{"name": "d", "version": "{v}"}}'.encode()
            for i, v in enumerate(versions)
        }

    assert between(layout, [thing("1", "2")], [thing("2", "3", "4")]).packages == (
        PackageChange(kind="npm", name="d", old="1", new="3"),
        PackageChange(kind="npm", name="d", old="", new="4"),
    )


def test_files_that_changed_in_every_way(layout: Layout) -> None:
    old, new, gone = Tree(), Tree(), Tree()
    for tree, mode, text, target in ((old, 0o644, b"one", b"a"), (new, 0o755, b"one", b"b")):
        tree.add(b"mode", file(b"same", mode))
        tree.add(b"text", file(text if tree is old else b"two"))
        tree.add(b"link", symlink(target))
        tree.add(b"same", file(b"same"))
        tree.add(b"kind", file(b"") if tree is old else directory())
    old.add(b"gone", file(b"12345"))
    new.add(b"come", file(b"", uid=7, gid=8))
    gone.add(b"gone", WHITEOUT)
    assert between(layout, [old], [old, new, gone]).files == (
        FileChange(path="come", old=None, new=("file", 0o644, "7:8", 0), content=True),
        FileChange(path="gone", old=("file", 0o644, "0:0", 5), new=None, content=True),
        FileChange(path="kind", old=("file", 0o644, "0:0", 0), new=("directory", 0o755, "0:0", 0), content=True),
        FileChange(path="link", old=("symlink", 0o777, "0:0", 0), new=("symlink", 0o777, "0:0", 0), content=True),
        FileChange(path="mode", old=("file", 0o644, "0:0", 4), new=("file", 0o755, "0:0", 4), content=False),
        FileChange(path="text", old=("file", 0o644, "0:0", 3), new=("file", 0o644, "0:0", 3), content=True),
    )


def test_layers_say_whose_they_are_and_processes_what_became_of_them(layout: Layout) -> None:
    one = samples.image(layout, "a", {b"shared": b"1"}, {b"mine": b"22"}, processes=(WEB, WORKER))
    other = samples.image(
        layout, "b", {b"shared": b"1"}, {b"yours": b"333"}, processes=(replace(WEB, port=1), replace(WEB, name="x"))
    )
    found = difference(
        layout, Inspector(layout, layout.folder.parent / "c"), image_of(layout, one), image_of(layout, other)
    )
    assert [(old, new) for _, _, old, new in found.layers] == [(True, True), (True, False), (False, True)]
    assert all(size == layout.blob_path(digest).stat().st_size for digest, size, _, _ in found.layers)
    assert found.processes == (("web", "changed"), ("worker", "removed"), ("x", "added"))


_FILES = st.dictionaries(st.sampled_from([b"a", b"b/c", b"b/d", b"e"]), st.binary(max_size=3), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(_FILES, _FILES)
def test_the_same_is_no_difference_and_what_differs_is_told(
    layout: Layout, one: dict[bytes, bytes], other: dict[bytes, bytes]
) -> None:
    found = between(layout, [one], [other]).files
    told = {change.path for change in found if (change.old or change.new or ("",))[0] == "file"}
    wanted = {path.decode() for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    assert told == wanted
    if one == other:
        assert found == ()


def test_the_mirror_of_a_difference(layout: Layout, tmp_path: Path) -> None:
    there = between(layout, [samples.BASE], [samples.BASE, samples.ABOVE])
    back = between(layout, [samples.BASE, samples.ABOVE], [samples.BASE])
    assert {(item.name, item.old, item.new) for item in there.packages} == {
        (item.name, item.new, item.old) for item in back.packages
    }
    assert {(item.path, item.old, item.new) for item in there.files} == {
        (item.path, item.new, item.old) for item in back.files
    }
