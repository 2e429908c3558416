"""A world of instances that is inspected for drift as the controller inspects one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stelae.core import drift
from stelae.core.drift import Sweep
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Answer, Drift, DriftPolicy, Finding, Inspection
from stelae.domain.units import MILLISECOND, SECOND, Duration
from stelae.testing.world import World

SWEEP: Duration = 4500 * MILLISECOND
"""Time between two inspections."""


@dataclass(slots=True, kw_only=True)
class WatchedWorld(World):
    """A world that is inspected. ``missed`` are instances that no inspection can look at."""

    missed: tuple[InstanceId, ...] = ()

    def drift(self, name: InstanceId, what: str = "its monitor has ended", kind: Drift = Drift.MONITOR) -> None:
        """Have *name* be something else from now on."""
        self.things[name].differences[what] = kind

    def inspection(self) -> Inspection:
        """Return what an inspection finds now."""
        running = {name: thing for name, thing in self.things.items() if thing.ended is None}
        findings = [
            Finding(kind=kind, what=what, instance=name, evidence=("it was seen",))
            for name, thing in running.items()
            for what, kind in thing.differs(self.now).items()
            if name not in self.missed
        ]
        return Inspection(
            as_of=self.now, findings=tuple(findings), inspected=frozenset(running) - set(self.missed),
            missed=dict.fromkeys(self.missed, "it cannot be read"),
        )  # fmt: skip

    def sweep(self) -> tuple[ev.Event, ...]:
        """Inspect, and record what that adds."""
        found = Sweep(began=self.env, asked=self.now, found=self.inspection())
        events = drift.events(self.env, found, self.now)
        self.record(*events)
        return events

    def watch(self, seconds: float) -> None:
        """Let *seconds* go by, with an inspection again and again."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            self.sweep()
            until = min(end, self.now + SWEEP)
            self.run(seconds=(until - self.now) / SECOND)
            self.now = max(self.now, until)
        self.sweep()
        self.run(seconds=0)

    def with_policy(self, answer: str = "replace", storm: int = 30) -> WatchedWorld:
        """Apply what is done about drift; return the same world."""
        assert self.env.config is not None
        policy = DriftPolicy(answer=Answer(answer), storm=storm)
        self.record(ev.EnvironmentApplied(environment=replace(self.env.config, drift=policy)))
        return self
