"""Layers that are several others laid over each other: the folders of these show the same as one of the whole layer.

So a layer of which a small part is new needs only that part laid out as files for the commands that run over it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stelae.build.cache import Cache, Made
from stelae.build.config import LayerFile
from stelae.domain.digest import Digest

MOST = 200
"""More parts than these are not used: overlayfs takes 500 folders, and mount(2) one page of names."""


def keep_parts(cache: Cache, layer: Digest, parts: Sequence[LayerFile]) -> None:
    """Remember that *layer* is *parts*, lowest first."""
    cache.store("parts", {"layer": layer}, Made(layers=tuple(parts)))


def in_parts(cache: Cache, layers: Sequence[LayerFile]) -> tuple[LayerFile, ...]:
    """Return *layers* with the parts of each one in its place, where they are known and still there."""
    result: list[LayerFile] = []
    for number, layer in enumerate(layers):
        found = cache.find("parts", {"layer": layer.digest})
        room = MOST - len(result) - (len(layers) - number)
        result += found.layers if found is not None and found.layers and len(found.layers) <= room else (layer,)
    return tuple(result)
