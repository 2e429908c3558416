"""Where the time of a deployment goes, by the times of its events in the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stelae.domain.action import Verb
from stelae.domain.event import ActionDone, ActionIntended, DeploymentRequested, InstanceReady, Recorded, RolloutEnded
from stelae.domain.state import DeploymentKind
from stelae.ledger.store import Ledger
from stelae.system.clock import now

PHASES = (
    "from the request's record to the record of what to launch",
    "the launches, until the last program runs",
    "until the last instance is ready and the step has passed",
    "the traffic moved, seen to be moved, and the outcome recorded",
)


def phases(path: Path) -> dict[str, list[float]]:
    """Return milliseconds by phase of each deployment in the record at *path* that launched and then routed.
    The controller must have ended."""
    ledger = Ledger.open(path, clock=now)
    try:
        found: dict[str, list[float]] = {name: [] for name in PHASES}
        for marks in _deployments(ledger.read()):
            for name, begin, end in zip(PHASES, marks, marks[1:], strict=False):
                found[name].append((end - begin) / 1000)
        return found
    finally:
        ledger.close()


def _deployments(events: Iterator[Recorded]) -> Iterator[list[int]]:
    """Yield, of each deployment: requested, launches intended, launched, traffic intended, ended."""
    marks: list[int] = []
    launches: set[int] = set()
    for recorded in events:
        event, at = recorded.event, recorded.at
        if isinstance(event, DeploymentRequested):
            marks, launches = [at] if event.deployment_kind is DeploymentKind.DEPLOY else [], set()
        elif isinstance(event, ActionIntended) and event.action.verb is Verb.LAUNCH:
            launches.add(event.action.number)
            marks = [*marks[:1], at] if marks else []
        elif isinstance(event, ActionDone) and event.number in launches and marks:
            marks = [*marks[:2], at]
        elif isinstance(event, InstanceReady):
            marks = marks[:3]
        elif isinstance(event, ActionIntended) and event.action.verb is Verb.ROUTE and len(marks) == 3:
            marks = [*marks, at]
        elif isinstance(event, RolloutEnded):
            if len(marks) == 4:
                yield [*marks, at]
            marks, launches = [], set()
