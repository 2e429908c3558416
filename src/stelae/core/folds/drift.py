"""Folds of drift: what was found and is gone again, storms, and what people want replaced."""

from __future__ import annotations

from dataclasses import replace

from stelae.core import verification
from stelae.core.folds.instances import ended_unasked, of_instance
from stelae.core.folds.table import folds
from stelae.core.owned import changed
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import WINDOW, Answer, Drift, Drifted, DriftPolicy, DriftState, Storm
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant


@folds(ev.DriftFound)
def _found(env: EnvironmentState, event: ev.DriftFound, at: Instant, actor: str) -> EnvironmentState:
    new = Drifted(drift=event.drift, what=event.what, since=at, evidence=event.evidence, instance=event.instance)
    known = env.instances.get(event.instance)
    if known is None:
        if event.instance and event.instance not in env.runs:
            return env  # it is not there any more: the record has it
        rest = _without(env.drift.findings, event.instance, event.drift, event.what)
        return changed(env, drift=replace(env.drift, findings=(*rest, new)))
    env = of_instance(env, known.id, drift=(*_without(known.drift, known.id, event.drift, event.what), new))
    if known.drift:
        return env  # it counts once
    recent = {name: since for name, since in env.drift.recent.items() if at - since < WINDOW}
    env = changed(env, drift=replace(env.drift, recent={**recent, known.id: at}))
    answer = (env.config.drift if env.config is not None else DriftPolicy()).answer
    if answer is Answer.REPLACE and env.drift.storm is None:
        return ended_unasked(env, env.instances[known.id], at)  # the replacements of what drifts in a row wait
    return verification.upset(env, known.release, at)


@folds(ev.DriftEnded)
def _ended(env: EnvironmentState, event: ev.DriftEnded, at: Instant, actor: str) -> EnvironmentState:
    known = env.instances.get(event.instance)
    if known is not None:
        return of_instance(env, known.id, drift=_without(known.drift, known.id, event.drift, event.what))
    rest = _without(env.drift.findings, event.instance, event.drift, event.what)
    return changed(env, drift=replace(env.drift, findings=rest))


def _without(known: tuple[Drifted, ...], name: InstanceId, drift: Drift, what: str) -> tuple[Drifted, ...]:
    return tuple(item for item in known if (item.instance, item.drift, item.what) != (name, drift, what))


@folds(ev.DriftStorm)
def _storm(env: EnvironmentState, event: ev.DriftStorm, at: Instant, actor: str) -> EnvironmentState:
    return changed(env, drift=replace(env.drift, storm=Storm(at=at, found=event.found, of=event.of)))


@folds(ev.ReplacementRequested)
def _replace(env: EnvironmentState, event: ev.ReplacementRequested, at: Instant, actor: str) -> EnvironmentState:
    for name in event.instances:
        env = of_instance(env, name, replaced_for=event.reason or actor)
    left = any(one.drift and not one.replaced_for and one.stopped_at is None for one in env.instances.values())
    return env if left else changed(env, drift=DriftState(findings=env.drift.findings))


def of_run_over(env: EnvironmentState, run: InstanceId) -> EnvironmentState:
    """Return *env* without what was found of a run that is over; the record keeps it."""
    rest = tuple(item for item in env.drift.findings if item.instance != run)
    return env if len(rest) == len(env.drift.findings) else changed(env, drift=replace(env.drift, findings=rest))
