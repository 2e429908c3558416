"""What is another inside one image than inside another, in short: what a plan shows."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from anyio import to_thread

from stelae.attest.contents import Inspector
from stelae.attest.difference import Difference, FileChange, difference
from stelae.controller.record import Record
from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.images.layout import Layout

Json = dict[str, Any]

SHOWN = 10
"""So many of the files that differ are named."""

KEPT = 16
"""So many answers are kept: two images differ always in the same."""


class Changes:
    """Compares images in *layout*."""

    def __init__(self, record: Record, layout: Layout, inspector: Inspector) -> None:
        self._record = record
        self._layout = layout
        self._inspector = inspector
        self._kept: OrderedDict[tuple[Digest, Digest], Json] = OrderedDict()

    async def between(self, old: Digest, new: Digest) -> Json | None:
        """Return ``{"packages", "files", "size"}``; None when one of the images is not here any more, or broken."""
        key = (old, new)
        if key not in self._kept:
            images = self._record.state.images
            if old not in images or new not in images:
                return None
            one, other = images[old].image, images[new].image
            try:
                found = await to_thread.run_sync(difference, self._layout, self._inspector, one, other)
            except (StelaeError, OSError):
                return None  # a plan says what it can; a deployment of a broken image is refused with the reason
            self._kept[key] = _told(found, one.size, other.size)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _told(found: Difference, old: int, new: int) -> Json:
    files = [(_how(item), item.path) for item in found.files if "directory" not in _kinds(item)]
    counts = Counter(how for how, _ in files)
    return {
        "packages": [
            {"kind": item.kind, "name": item.name, "old": item.old, "new": item.new} for item in found.packages
        ],
        "files": {how: counts[how] for how in ("added", "changed", "removed")},
        "first": [{"path": path, "change": how} for how, path in files[:SHOWN]],
        "size": {"old": old, "new": new},
    }


def _how(item: FileChange) -> str:
    return "added" if item.old is None else "removed" if item.new is None else "changed"


def _kinds(item: FileChange) -> set[str]:
    return {said[0] for said in (item.old, item.new) if said is not None}
