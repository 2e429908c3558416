"""How times, sizes and ids are said to a person."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from stelae.domain.units import Duration, Instant

_SPANS = ((86_400, "day", "days"), (3_600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


def short_digest(digest: str) -> str:
    """Return the 12 digits of *digest* that a person reads, ``-`` for none."""
    return digest.removeprefix("sha256:")[:12] or "-"


def short_release(release: str) -> str:
    """Return ``r-`` and six characters, ``-`` for none."""
    return release[:8] or "-"


def short_commit(commit: str) -> str:
    """Return seven digits, ``-`` for none."""
    return commit[:7] or "-"


def age(since: Instant | None, now: Instant) -> str:
    """Return how long ago *since* was: ``4 min``, ``2 days``."""
    if since is None:
        return "-"
    seconds = max(0, now - since) // 1_000_000
    for size, one, many in _SPANS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {one if count == 1 else many}"
    return "0 s"


def span(duration: Duration) -> str:
    """Return how long something took or will take: ``0.6 s``, ``12 s``, ``10 min``, ``3 min 4 s``."""
    if duration < 10_000_000:
        return f"{max(0, duration) / 1_000_000:.1f} s"
    seconds = duration // 1_000_000
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" + (f" {seconds % 60} s" if seconds % 60 else "")


def size(count: int) -> str:
    """Return *count* bytes as ``512 B``, ``212 kB``, ``1.4 GB`` (powers of 1000)."""
    if count < 1000:
        return f"{count} B"
    value, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f} {units[0]}" if value < 10 else f"{value:.0f} {units[0]}"


def percent(basis_points: int) -> str:
    """Return ``95 %`` or ``0.5 %``."""
    return f"{basis_points / 100:g} %"


def cluster(choice: Mapping[str, str]) -> str:
    """Return ``kubernetes prod/shop``: the context, where one is named, and the namespace; ``vm``; ``-`` of no other
    machine."""
    if choice["kind"] == "local":
        return "-"
    return f"{choice['kind']} {'/'.join(choice[key] for key in ('context', 'namespace') if choice.get(key))}".rstrip()


def platform(choice: Mapping[str, str]) -> str:
    """Return *choice* whole; nothing of this machine."""
    if choice["kind"] == "local":
        return ""
    if choice["kind"] == "vm":
        return "vm"
    shared = f"the Gateway {choice['gateway']} shares requests out" if choice.get("gateway") else "no Gateway"
    return f"{cluster(choice)}, images from {choice['registry']}, {shared}"


def secret_change(change: Mapping[str, object]) -> str:
    """Return ``NAME v2 -> v3``, with ``none`` for no version."""
    old, new = (f"v{change[end]}" if change[end] else "none" for end in ("old", "new"))
    return f"{change['name']} {old} -> {new}"


def local_time(at: Instant | None) -> str:
    """Return *at* in the local time zone, ``-`` for none."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1_000_000))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return *rows* under *header* as lines with aligned columns."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
