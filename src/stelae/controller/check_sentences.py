"""Events of checks as sentences."""

from __future__ import annotations

from stelae.core.checks import BASELINE
from stelae.domain import event as ev
from stelae.domain.check import CheckVerdict
from stelae.domain.event import Event

_SAYS = {
    CheckVerdict.PASS: "passes", CheckVerdict.FAIL: "fails", CheckVerdict.WAIT: "is not sure yet",
    CheckVerdict.SILENT: "gives no answer",
}  # fmt: skip


def of_checks(event: Event) -> str:
    """Return what *event* says, "" for one of another topic."""
    if not isinstance(event, ev.CheckMeasured):
        return ""
    about = " for the old release" if event.step == BASELINE else f" in step {event.step + 1}"
    because = f": {event.reason}" if event.reason else ""
    return f"{event.deployment}: check {event.check} {_SAYS[event.verdict]}{about}{because}"


def is_usual(event: ev.CheckMeasured) -> bool:
    """True for an answer that nobody looks for in a history."""
    return event.verdict in (CheckVerdict.PASS, CheckVerdict.WAIT)
