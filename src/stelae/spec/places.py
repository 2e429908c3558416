"""Places: tables inside a raw document, and absolute paths inside an image."""

from __future__ import annotations

from typing import Any

Table = dict[str, Any]

SYSTEM = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""What is mounted into every instance."""


def table_at(document: Table, *path: str) -> Table:
    """Return the table at *path* of *document*, empty when there is none."""
    place: Any = document
    for name in path:
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else {}


def inside(path: str, folder: str) -> bool:
    """True when *path* is *folder* or below it."""
    return path == folder or path.startswith(folder + "/")


def overlap(one: str, other: str) -> bool:
    """True when one of the two is inside the other."""
    return inside(one, other) or inside(other, one)
