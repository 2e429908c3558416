"""Layers as folders and as trees, for the steps that look into the layers below them.

``FOLDER/HEX`` is the layer ``sha256:HEX`` laid out as files: made once, and it may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from stelae.build.config import LayerFile
from stelae.build.sandbox import lay_out
from stelae.domain.digest import Digest, hex_of
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.shown import Shown
from stelae.images.tree import Tree

MAKING = ".making-"
"""How the names of unfinished folders begin; a crash may leave them, garbage collection takes them."""

KEPT_ENTRIES = 20_000
"""So many entries of layers stay in memory, at some 700 bytes each."""


class Roots:
    """The folders below *folder* of layers in *layout*."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._trees: OrderedDict[tuple[Digest, bool], Tree] = OrderedDict()
        self._lock = Lock()

    def tree(self, layers: Sequence[LayerFile]) -> Tree:
        """Return what *layers*, lowest first, show together; nobody may change it."""
        if not layers:
            return Tree()
        lowest = layers[0].digest
        result = self._remembered(lowest, alone=True)
        for layer in layers[1:]:
            result = result.merge(self.layer(layer.digest))
        return result

    def shown(self, layers: Sequence[LayerFile]) -> Shown:
        """Return what *layers*, lowest first, show together, to look up a few paths in."""
        lowest = [self._remembered(layer.digest, alone=True) for layer in layers[:1]]
        return Shown([*lowest, *(self.layer(layer.digest) for layer in layers[1:])])

    def layer(self, digest: Digest) -> Tree:
        """Return what one layer holds; nobody may change it."""
        return self._remembered(digest, alone=False)

    def _remembered(self, digest: Digest, *, alone: bool) -> Tree:
        """Return a layer, or what it shows *alone*. The last ones stay in memory: builds have the same layers again
        and again, and to read thousands of entries takes longer than most of what is made over them. The file must
        still be there."""
        key = digest, alone
        with self._lock:
            found = self._trees.pop(key, None)
        if found is None or not self._layout.has(digest):
            found = Tree().merge(self.layer(digest)) if alone else read_layer(self._layout.blob_path(digest))
        if len(found) <= KEPT_ENTRIES:
            with self._lock:
                self._trees[key] = found
                while sum(map(len, self._trees.values())) > KEPT_ENTRIES:
                    self._trees.popitem(last=False)
        return found

    def folders(self, layers: Sequence[LayerFile]) -> list[Path]:
        """Return the folder of each of *layers*, made where it is not there."""
        return [self._kept(layer.digest) for layer in layers]

    def _kept(self, layer: Digest) -> Path:
        place = self._folder / hex_of(layer)
        with suppress(FileNotFoundError):
            os.utime(place)  # used now: garbage collection lets it be
            return place
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not place.exists():
                self._layout.verify_blob(layer)
                making = Path(tempfile.mkdtemp(prefix=MAKING, dir=self._folder))
                try:
                    lay_out(self.layer(layer), making / "layer").replace(place)
                finally:
                    shutil.rmtree(making, ignore_errors=True)
        return place
