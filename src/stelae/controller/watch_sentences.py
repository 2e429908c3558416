"""Watches as sentences."""

from __future__ import annotations

from stelae.domain.event import EnvironmentWatched, Event
from stelae.domain.units import SECOND


def is_usual(event: EnvironmentWatched) -> bool:
    """True for a watch in which somebody always looked."""
    return not event.gaps


def of_watches(event: Event) -> str:
    """Return what a watch says, "" for every other event."""
    if not isinstance(event, EnvironmentWatched):
        return ""
    lasted = round((event.until - event.since) / SECOND)
    there = ", ".join(f"{count} {phase}" for phase, count in event.phases.items()) or "nothing there"
    text = f"watched for {lasted} s: {event.looks} looks, {event.inspections} inspections, {there}"
    missing = sum(gap.until - gap.since for gap in event.gaps)
    if not missing:
        return text
    why = "; ".join(dict.fromkeys(gap.why for gap in event.gaps if gap.why))
    return f"{text}; not observed for {round(missing / SECOND)} s" + (f": {why}" if why else "")
