"""How it is said in which of a time somebody looked."""

from __future__ import annotations

from stelae.cli.words import local_time, percent, span
from stelae.controller.client import Json

SHOWN = 3
"""So many gaps are told, the newest."""


def share(observed: Json) -> str:
    """Return ``99.98 %``, or ``never`` of what was not watched at all."""
    return "never" if observed["share"] is None else percent(observed["share"])


def gaps(observed: Json) -> list[str]:
    """Return a line for each of the newest gaps: when, how long, and why."""
    return [
        f"not observed {local_time(gap['since'])} for {span(gap['until'] - gap['since'])}: {gap['why']}"
        for gap in observed["gaps"][-SHOWN:]
    ]
