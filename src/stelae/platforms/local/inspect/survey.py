"""Who is in which namespaces, of all processes of the machine: whoever entered an instance is found by that alone.

A survey costs some microseconds a process, and is the same for every instance, so it is kept for a moment. It only
says where to look: what is found by it is looked at again.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from stelae.platforms.local.inspect.kernel import NAMESPACES, namespace, processes

FRESH_SECONDS = 0.5
"""How old a survey may be."""

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Survey:
    """The processes of every namespace, by its name, and when this was found (monotonic seconds)."""

    members: Mapping[str, Collection[int]]
    at: float


_kept: Survey | None = None  # it is of the machine, not of an engine


def survey() -> Survey:
    """Return what was found last, or look again when that is too long ago. Safe for threads."""
    global _kept
    with _LOCK:
        if _kept is None or time.monotonic() - _kept.at > FRESH_SECONDS:
            _kept = look()
        return _kept


def look() -> Survey:
    """Ask each process."""
    at = time.monotonic()
    members: defaultdict[str, list[int]] = defaultdict(list)
    for pid in processes():
        for kind in NAMESPACES:
            name = namespace(pid, kind)
            if name is None:
                break
            members[name].append(pid)
    return Survey(members, at)
