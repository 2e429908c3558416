"""What layers show together, looked up path by path: where few paths are asked for, quicker than ``Tree.merge``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stelae.images.tree import Kind, Node, Tree


class Look(Protocol):
    """Something that has a node at some paths."""

    def get(self, path: bytes, /) -> Node | None:
        """Return the node at *path*, None where nothing is."""
        ...


class Shown:
    """The trees *layers*, lowest first, laid over each other. Nothing of them is copied."""

    def __init__(self, layers: Sequence[Tree]) -> None:
        self._layers = tuple(reversed(layers))

    def get(self, path: bytes, /) -> Node | None:
        """Return the node at *path*, for a hard link the file that it names; None where nothing is."""
        for layer in self._layers:
            if path in layer:
                node = layer.resolve(path)
                return None if node.kind is Kind.WHITEOUT else node
            if _hides(layer, path):
                return None
        return None


def _hides(layer: Tree, path: bytes) -> bool:
    """Say whether *layer*, which has nothing at *path*, lets nothing of lower layers shine through there."""
    while path := path.rpartition(b"/")[0]:
        node = layer.get(path)
        if node is not None and (node.opaque or node.kind is not Kind.DIRECTORY):
            return True
    return False
