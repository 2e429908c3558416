"""The record of a world under a virtual clock: one environment, whose events are folded as they come."""

from __future__ import annotations

from dataclasses import dataclass, field

from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome
from stelae.domain.strategy import Strategy
from stelae.domain.units import SECOND, Instant


@dataclass(slots=True, kw_only=True)
class RecordedWorld:
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
