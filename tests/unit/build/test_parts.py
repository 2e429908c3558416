"""Layers that are several others: these take their place while all of them are there."""

from __future__ import annotations

from pathlib import Path

from stelae.build import parts
from stelae.build.cache import Cache
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.parts import in_parts, keep_parts
from stelae.images.layout import Layout
from stelae.images.tree import Tree, file


def layer(layout: Layout, name: str) -> LayerFile:
    tree = Tree()
    tree.add(name.encode(), file(name.encode()))
    digest, size = layout.add_layer(tree, mtime=FILE_TIME)
    return LayerFile(digest=digest, size=size)


def test_parts_take_the_place_of_their_layer_while_they_are_there(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "images")
    cache = Cache(tmp_path / "cache", layout)
    below, whole, above, one, two = (layer(layout, name) for name in ("below", "whole", "above", "one", "two"))
    assert in_parts(cache, [below, whole, above]) == (below, whole, above)
    keep_parts(cache, whole.digest, [one, two])
    assert in_parts(cache, [below, whole, above]) == (below, one, two, above)
    layout.blob_path(two.digest).unlink()
    assert in_parts(cache, [below, whole, above]) == (below, whole, above)


def test_there_are_never_more_folders_than_overlayfs_takes(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "images")
    cache = Cache(tmp_path / "cache", layout)
    whole, part = layer(layout, "whole"), layer(layout, "part")
    several = [part] * (parts.MOST - 2)
    keep_parts(cache, whole.digest, several)
    assert in_parts(cache, [whole, part]) == (*several, part)
    assert in_parts(cache, [whole, part, part]) == (whole, part, part)
