"""Garbage collection: a root keeps all it needs, and a build in progress loses nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stelae.domain.digest import Digest
from stelae.domain.errors import Failed
from stelae.domain.units import HOUR, MINUTE
from stelae.images.gc import collect
from stelae.images.layout import Layout
from stelae.images.rubbish import ABANDONED, Removed, What
from tests.unit.images.test_layout import manifest_of, put
from tests.unit.images.test_tree import tree_of


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.open(tmp_path / "images")


def age(layout: Layout, *, hours: float = 2) -> None:
    then = time.time() - hours * 3600
    for digest in layout.blobs.all():
        os.utime(layout.blob_path(digest), (then, then))


def removed(layout: Layout, *roots: Digest, dry_run: bool = False) -> set[str]:
    found = collect(layout, layout.folder.parent / "layers", set(roots), dry_run=dry_run, min_age=HOUR)
    return {item.name for item in found if item.what is What.BLOB}


def test_an_image_that_is_a_root_keeps_its_blobs(layout: Layout) -> None:
    kept, gone = put(layout, "a=1", "kept"), put(layout, "a=2", "gone")
    age(layout)
    expected = layout.blobs_of(gone) - layout.blobs_of(kept)
    assert removed(layout, kept, dry_run=True) == expected
    assert layout.has(gone)
    age(layout)
    assert removed(layout, kept) == expected
    assert [entry.digest for entry in layout.images()] == [kept]
    assert set(layout.blobs.all()) == layout.blobs_of(kept)
    assert removed(layout, kept) == set()


def test_a_root_that_lost_its_name_keeps_its_blobs(layout: Layout) -> None:
    kept = put(layout, "a=1")
    blobs = layout.blobs_of(kept)
    layout.remove(kept)
    age(layout)
    assert removed(layout, kept) == set()
    assert set(layout.blobs.all()) == blobs


def test_a_single_blob_can_be_a_root(layout: Layout) -> None:
    layer, other = (layout.add_layer(tree_of(text), mtime=1)[0] for text in ("a=1", "a=2"))
    age(layout)
    assert removed(layout, layer) == {other}


def test_what_is_new_or_was_asked_for_stays(layout: Layout) -> None:
    cached, old = (layout.add_layer(tree_of(text), mtime=1)[0] for text in ("a=1", "a=2"))
    age(layout)
    # A build finds a layer in its cache, and names an image with it later.
    assert layout.has(cached)
    fresh = layout.add_blob(b"fresh")
    assert removed(layout) == {old}
    assert set(layout.blobs.all()) == {cached, fresh}


def test_a_young_image_keeps_old_blobs(layout: Layout) -> None:
    layer = layout.add_layer(tree_of("a=1"), mtime=1)
    manifest = manifest_of(layout, layer)
    age(layout)
    layout.put_image(manifest, name="young")
    assert removed(layout) == set()
    assert layout.has(layer[0])


def test_a_broken_image_stops_the_collection_only_when_it_is_a_root(layout: Layout) -> None:
    broken, gone = put(layout, "a=1"), put(layout, "a=2")
    path = layout.blob_path(broken)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    age(layout)
    with pytest.raises(Failed, match=broken):
        removed(layout, broken)
    assert layout.blob_path(gone).exists()
    assert removed(layout) >= {broken, gone}


def test_leftovers_of_a_crash_go_when_they_are_old(layout: Layout) -> None:
    layers = layout.folder.parent / "layers"
    for folder in (layers / ".making.a", layout.folder / ".import.b"):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"12345")
    (layout.blobs.folder / ".adding.c").write_bytes(b"1")
    assert collect(layout, layers, set(), min_age=MINUTE) == []
    for path in (layers / ".making.a", layout.folder / ".import.b", layout.blobs.folder / ".adding.c"):
        os.utime(path, (1, 1))
    assert collect(layout, layers, set(), min_age=MINUTE) == [
        Removed(what=What.LEFTOVER, name=str(layout.blobs.folder / ".adding.c"), size=1, reason=ABANDONED),
        Removed(what=What.LEFTOVER, name=str(layout.folder / ".import.b"), size=5, reason=ABANDONED),
        Removed(what=What.LEFTOVER, name=str(layers / ".making.a"), size=5, reason=ABANDONED),
    ]
    assert sorted(path.name for path in layers.iterdir()) == [".lock"]
