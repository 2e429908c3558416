"""Layers as folders and as trees, for the steps that look into the layers below them.

``FOLDER/HEX`` is the layer ``sha256:HEX`` laid out as files: made once, and it may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stelae.build.config import LayerFile
from stelae.build.sandbox import lay_out
from stelae.domain.digest import Digest, hex_of
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.tree import Tree

MAKING = ".making-"
"""How the names of unfinished folders begin; a crash may leave them, garbage collection takes them."""


class Roots:
    """The folders below *folder* of layers in *layout*."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout

    def tree(self, layers: Sequence[LayerFile]) -> Tree:
        """Return what *layers*, lowest first, show together."""
        result = Tree()
        for layer in layers:
            result = result.merge(self.layer(layer.digest))
        return result

    def layer(self, digest: Digest) -> Tree:
        """Return what one layer holds."""
        return read_layer(self._layout.blob_path(digest))

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
