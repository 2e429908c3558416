"""Looking up a path in layers gives what laying them over each other gives."""

from __future__ import annotations

import random

import pytest

from stelae.images.shown import Shown
from stelae.images.tree import WHITEOUT, Kind, Node, Tree, directory, file, symlink

NAMES = (b"a", b"b", b"c")
PATHS = [
    *NAMES, *(x + b"/" + y for x in NAMES for y in NAMES), *(x + b"/a/" + y for x in NAMES for y in NAMES),
]  # fmt: skip


def layer(chance: random.Random, *, lowest: bool) -> Tree:
    tree = Tree()
    for path in chance.sample(PATHS, 6):
        kind = chance.randrange(6)
        if kind == 0 and not lowest:
            node = WHITEOUT
        elif kind == 1:
            node = directory(chance.choice([0o755, 0o700]))
        elif kind == 2:
            node = symlink(b"b")
        else:
            node = file(b"%d" % chance.randrange(99))
        parents = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
        if path not in tree and all(p not in tree or tree[p].kind is Kind.DIRECTORY for p in parents):
            tree.add(path, node)
    for path in [p for p, node in tree.items() if node.kind is Kind.FILE][:1]:
        tree.put(b"link", Node(kind=Kind.LINK, target=path))
    for path in [p for p, node in tree.items() if node.kind is Kind.DIRECTORY and not lowest][:1]:
        if chance.random() < 0.5:
            tree.make_opaque(path)
    return tree


@pytest.mark.parametrize("seed", range(300))
def test_it_is_what_merging_shows(seed: int) -> None:
    chance = random.Random(seed)
    layers = [layer(chance, lowest=number == 0) for number in range(chance.randrange(1, 5))]
    merged = Tree()
    for one in layers:
        merged = merged.merge(one)
    shown = Shown(layers)
    for path in [*PATHS, b"link", b"nothing", b"a/b/c/d"]:
        found = shown.get(path)
        if path not in merged:
            assert found is None
        else:
            wanted = merged.resolve(path)
            assert found is not None
            assert (found.kind, found.mode, found.content, found.target) == (
                wanted.kind, wanted.mode, wanted.content, wanted.target,
            )  # fmt: skip
