"""Events of drift as sentences for people."""

from __future__ import annotations

from stelae.domain import event as ev
from stelae.domain.event import Event


def of_drift(event: Event) -> str:
    """Return what *event* says, "" when it is of something else."""
    match event:
        case ev.DriftFound():
            return f"{_whose(event.instance)} drifted ({event.drift}): {event.what}"
        case ev.DriftEnded():
            return f"{_whose(event.instance)} differs no more ({event.drift}): {event.what}"
        case ev.DriftStorm():
            many = f"{event.found} instances drifted, and {event.of} should serve"
            return f"drift storm: {many}; nothing more is replaced until somebody says so (stelae replace)"
        case ev.ReplacementRequested():
            what = f"to be replaced: {', '.join(event.instances)}" if event.instances else "the drift storm is over"
            return f"{what}: {event.reason}" if event.reason else what
    return ""


def _whose(instance: str) -> str:
    return instance or "the environment"
