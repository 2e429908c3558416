"""A world under a virtual clock: the record of one environment, and time that goes by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome
from stelae.domain.strategy import Strategy
from stelae.domain.units import SECOND, Instant
from stelae.testing.things import BrokenLaw


@dataclass(slots=True, kw_only=True)
class RecordedWorld(ABC):
    """What all worlds have. ``log`` keeps every event with its time."""

    env: EnvironmentState
    now: Instant = 1_000 * SECOND
    log: list[tuple[Instant, Event]] = field(default_factory=list)

    def record(self, *events: Event) -> None:
        """Fold *events* as if they were recorded now."""
        for event in events:
            self.log.append((self.now, event))
            self.env = evolve(self.env, event, self.now, "tester")

    def request(
        self, release: Release, strategy: Strategy | None = None, kind: DeploymentKind = DeploymentKind.DEPLOY
    ) -> str:
        """Ask for a deployment of *release*, superseding what is under way; return its id."""
        name = f"d-{len(self.env.deployments) + 1}"
        assert self.env.config is not None
        if self.env.rollout is not None:
            self.record(ev.RolloutEnded(deployment=self.env.rollout.deployment, outcome=Outcome.SUPERSEDED))
        self.record(
            ev.DeploymentRequested(
                deployment=name, deployment_kind=kind, release=release, strategy=strategy or self.env.config.strategy
            )
        )
        return name

    @abstractmethod
    def turn(self) -> Instant | None:
        """Make one pass of the loop; return when to look again: now when something was done."""

    @abstractmethod
    def _moments(self) -> Iterable[Instant]:
        """Return when something happens by itself."""

    def run(self, seconds: float = 3600, passes: int = 20_000) -> None:
        """Run until nothing is left to do or *seconds* of virtual time have gone by."""
        end = self.now + int(seconds * SECOND)
        for _ in range(passes):
            wake = self.turn()
            if wake == self.now:
                continue
            moments = [at for at in (wake, *self._moments()) if at is not None and at > self.now]
            if not moments or min(moments) > end:
                self.now = end if moments else self.now
                return
            self.now = min(moments)
        raise BrokenLaw("the loop does not come to rest")
