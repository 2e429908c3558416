"""Folds of what an environment is made to be."""

from __future__ import annotations

from dataclasses import replace

from stelae.core import verification
from stelae.core.folds.table import folds
from stelae.core.owned import with_item
from stelae.domain import event as ev
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant


@folds(ev.EnvironmentApplied)
def _applied(env: EnvironmentState, event: ev.EnvironmentApplied, at: Instant, actor: str) -> EnvironmentState:
    old, new = (env.config.processes if env.config else {}), event.environment.processes
    # A count that the file did not change keeps what `scale` made of it.
    wanted = {
        name: env.wanted[name] if old.get(name) == count and name in env.wanted else count
        for name, count in new.items()
    }
    return replace(env, config=event.environment, wanted=wanted)


@folds(ev.EnvironmentStopped)
def _stopped(env: EnvironmentState, event: ev.EnvironmentStopped, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, down=True, warm={})


@folds(ev.EnvironmentStarted)
def _started(env: EnvironmentState, event: ev.EnvironmentStarted, at: Instant, actor: str) -> EnvironmentState:
    return verification.upset(replace(env, down=False), env.stable, at)


@folds(ev.Scaled)
def _scaled(env: EnvironmentState, event: ev.Scaled, at: Instant, actor: str) -> EnvironmentState:
    return replace(env, wanted=with_item(env.wanted, event.process, event.count))
