"""Layers that were read stay in memory: the same trees, for as long as the layer is there, and not too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.build import roots as roots_module
from stelae.build.config import LayerFile
from stelae.build.roots import Roots
from stelae.images import content
from stelae.images.layout import Layout
from stelae.images.tree import WHITEOUT, Tree, directory, file


def stored(layout: Layout, **files: bytes) -> LayerFile:
    tree = Tree()
    for name, data in files.items():
        tree.add(f"etc/{name}".encode(), file(data))
    digest, size = layout.add_layer(tree, mtime=0)
    return LayerFile(digest=digest, size=size)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have each layer that is read be noted."""
    read: list[Path] = []
    real = roots_module.read_layer

    def note(path: Path) -> Tree:
        read.append(path)
        return real(path)

    monkeypatch.setattr(roots_module, "read_layer", note)
    return read


def test_a_layer_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.open(tmp_path / "images")
    base, upper = stored(layout, a=b"1", b=b"2"), stored(layout, b=b"3")
    read = counted(monkeypatch)
    roots = Roots(tmp_path / "roots", layout)
    first = roots.tree([base, upper])
    assert {name: content.read(first[name].content) for name in (b"etc/a", b"etc/b")} == {
        b"etc/a": b"1", b"etc/b": b"3",
    }  # fmt: skip
    assert dict(roots.tree([base, upper])) == dict(first)
    assert content.read(roots.tree([base])[b"etc/b"].content) == b"2", "what lies on a layer changed it"
    assert len(read) == 2


def test_the_lowest_layer_shows_what_it_hides_as_gone(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "images")
    tree = Tree()
    tree.add(b"etc", directory())
    tree.add(b"etc/gone", WHITEOUT)
    tree.make_opaque(b"etc")
    digest, size = layout.add_layer(tree, mtime=0)
    shown = Roots(tmp_path / "roots", layout).tree([LayerFile(digest=digest, size=size)])
    assert list(shown) == [b"etc"]
    assert not shown[b"etc"].opaque


def test_a_layer_that_is_gone_is_missed(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "images")
    base = stored(layout, a=b"1")
    roots = Roots(tmp_path / "roots", layout)
    roots.tree([base])
    layout.blob_path(base.digest).unlink()
    with pytest.raises(OSError, match="No such file"):
        roots.tree([base])


def test_only_so_much_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots_module, "KEPT_ENTRIES", 6)
    layout = Layout.open(tmp_path / "images")
    layers = [stored(layout, **{f"f{number}": b"x"}) for number in range(5)]
    large = stored(layout, **{f"l{number}": b"x" for number in range(10)})
    roots = Roots(tmp_path / "roots", layout)
    read = counted(monkeypatch)
    for _ in range(2):
        for layer in [*layers, large]:
            roots.layer(layer.digest)
    assert len(read) == 12, "more is kept than may be"
    roots.layer(layers[-1].digest)
    assert len(read) == 12, "what was used last is not kept"
    assert sum(map(len, roots._trees.values())) <= 6
