"""The fold of one environment: its state and an event give its next state.

Many events are folded best at once (``evolve_all``): each mapping of the state is then copied once, not for each
event.
"""

from __future__ import annotations

from collections.abc import Iterable

from stelae.core.folds import FOLDS
from stelae.core.owned import settled
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant

_REVISING = (
    ev.EnvironmentApplied, ev.EnvironmentStopped, ev.EnvironmentStarted, ev.Scaled, ev.DeploymentRequested,
    ev.RolloutReverting, ev.RolloutEnded, ev.SecretSet, ev.SecretRevoked,
)  # fmt: skip


def evolve(env: EnvironmentState, event: Event, at: Instant, actor: str = "") -> EnvironmentState:
    """Return the environment's state after *event*, which happened at *at* by *actor*."""
    return settled(evolved(env, event, at, actor))


def evolve_all(env: EnvironmentState, events: Iterable[Event], at: Instant, actor: str = "") -> EnvironmentState:
    """Return the environment's state after all of *events*, which happened at *at* by *actor*."""
    for event in events:
        env = evolved(env, event, at, actor)
    return settled(env)


def evolved(env: EnvironmentState, event: Event, at: Instant, actor: str) -> EnvironmentState:
    """As ``evolve``, for who has more to fold and settles the state in the end."""
    fold = FOLDS.get(type(event))
    return fold(env, event, at, actor) if fold else env


def revises(event: Event) -> bool:
    """True for what makes a plan of the environment stale: what a person did, and how a rollout goes or went back or
    ended. Acts, observations and the steps of a rollout are not, or a plan would never hold."""
    return isinstance(event, _REVISING)
