"""Crash loops: processes of the stable release whose instances end again and again, as status tells of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stelae.core import backoff
from stelae.domain.state import Backoff, EnvironmentState
from stelae.domain.units import MINUTE, SECOND, Duration, Instant

Json = dict[str, Any]

AFTER = 3
"""So many ends in a row are a crash loop."""


def crash_loops(env: EnvironmentState) -> list[Json]:
    """Return the crash loops of *env*: which process, how the last instance ended and its last lines, how often in a
    row, the times of the first and the last end, and when one is launched next."""
    return [
        {
            "process": process,
            "why": pause.why,
            "failures": pause.failures,
            "first_at": pause.since or backoff.failed_at(pause),
            "last_at": backoff.failed_at(pause),
            "next_at": pause.until,
            "last_lines": list(pause.lines),
        }
        for process, pause in _found(env)
    ]


def sentence(env: EnvironmentState, now: Instant | None) -> str:
    """Return ``crash loop: web exited with status 1, 7 times in 4 min``, and with *now* when the next try is; "" when
    there is no crash loop."""
    for process, pause in _found(env):
        last = backoff.failed_at(pause)
        often = f"{pause.failures} times in {_span(last - pause.since)}" if pause.since else f"{pause.failures} times"
        text = f"crash loop: {process} {pause.why or 'keeps ending'}, {often}"
        return text if now is None or pause.until <= now else f"{text}; next try in {_span(pause.until - now)}"
    return ""


def _found(env: EnvironmentState) -> Iterator[tuple[str, Backoff]]:
    for process in env.wanted:
        pause = env.backoff.get(backoff.key(env.stable, process)) if env.stable else None
        if pause is not None and pause.failures >= AFTER:
            yield process, pause


def _span(duration: Duration) -> str:
    if duration < 2 * MINUTE:
        return f"{max(1, -(-duration // SECOND))} s"
    return f"{duration // MINUTE} min"
