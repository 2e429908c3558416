"""Folds of what an environment is made to be."""

from __future__ import annotations

from dataclasses import replace

from stelae.core import promotion, verification
from stelae.core.folds.table import folds
from stelae.core.owned import with_item
from stelae.domain import event as ev
from stelae.domain.environment import Environment
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant


@folds(ev.EnvironmentApplied)
def _applied(env: EnvironmentState, event: ev.EnvironmentApplied, at: Instant, actor: str) -> EnvironmentState:
    wanted = {name: _wanted(env, event.environment, name) for name in event.environment.processes}
    approval = promotion.applied(env, event.environment)
    return replace(verification.rescaled(env, at), config=event.environment, wanted=wanted, approval=approval)


def _wanted(env: EnvironmentState, after: Environment, name: str) -> int:
    """A count that the file did not change keeps what ``scale`` made of it; one that is scaled, whatever it is, but
    not beyond the limits."""
    count, known, scaling = after.processes[name], env.wanted.get(name), after.scaling.get(name)
    if known is None:
        return count
    if scaling is not None:
        return min(max(known, scaling.least), scaling.most)
    same = env.config is not None and env.config.processes.get(name) == count and name not in env.config.scaling
    return known if same else count


@folds(ev.EnvironmentStopped)
def _stopped(env: EnvironmentState, event: ev.EnvironmentStopped, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, down=True, warm={})


@folds(ev.EnvironmentStarted)
def _started(env: EnvironmentState, event: ev.EnvironmentStarted, at: Instant, actor: str) -> EnvironmentState:
    return verification.upset(replace(env, down=False), env.stable, at)


@folds(ev.Scaled)
def _scaled(env: EnvironmentState, event: ev.Scaled, at: Instant, actor: str) -> EnvironmentState:
    return replace(verification.rescaled(env, at), wanted=with_item(env.wanted, event.process, event.count))
