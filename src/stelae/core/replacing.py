"""Replacing: which instances are replaced because they drifted, or because a person said so. Pure.

Nothing that drifted is ever made what it was (law 10): it is reported, or another instance takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from stelae.core import backoff, moves
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.drift import WINDOW, Answer, DriftPolicy, Storm
from stelae.domain.state import DeploymentKind, EnvironmentState, Instance, Phase
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.domain.units import Instant


def policy(env: EnvironmentState) -> DriftPolicy:
    """Return what *env* does about drift."""
    return env.config.drift if env.config is not None else DriftPolicy()


def runs_now(instance: Instance) -> bool:
    """True for an instance that was launched, has not ended, and was not asked to end."""
    return instance.started and not instance.failed and instance.exit is None and instance.stopped_at is None


def puts_right(env: EnvironmentState) -> bool:
    """True where what differs around instances is put right: not where drift is only reported, nor in a storm."""
    return policy(env).answer is Answer.REPLACE and env.drift.storm is None


def drifted(env: EnvironmentState) -> list[Instance]:
    """Return the instances that run and differ from their release, those first that were found first."""
    there = [instance for instance in env.instances.values() if instance.drift and runs_now(instance)]
    return sorted(there, key=lambda one: (one.drift[0].since, one.id))


def storm(env: EnvironmentState, now: Instant) -> Storm | None:
    """Return the storm in which nothing is replaced for drift, None where there is none."""
    if env.drift.storm is not None:
        return env.drift.storm
    return _storm(env, now)


def _storm(env: EnvironmentState, now: Instant) -> Storm | None:
    """The rule: too many drifted in a short time, those that were replaced since included."""
    if policy(env).answer is not Answer.REPLACE:
        return None
    recent = {name for name, at in env.drift.recent.items() if now - at < WINDOW}
    found = len(recent | {instance.id for instance in drifted(env) if not instance.replaced_for})
    serving = 0 if env.down else sum(env.wanted.values())
    if found < 2 or found * 100 <= policy(env).storm * serving:
        return None
    return Storm(at=now, found=found, of=serving)


def condemned(env: EnvironmentState, now: Instant) -> Iterator[InstanceId]:
    """Yield the instances that are replaced now, because they drifted or because a person said so: of each process
    as many at a time as a rollout would add. Their replacements are ready first."""
    room = Counter({name: _at_once(env, count) for name, count in env.wanted.items()})
    asked = (one for one in env.instances.values() if one.replaced_for and runs_now(one))
    answered = policy(env).answer is Answer.REPLACE and storm(env, now) is None
    found = drifted(env) if answered else ()
    for instance in (*asked, *(one for one in found if not one.replaced_for and _is_replaced(env, one, now))):
        if room[instance.process] > 0:
            room[instance.process] -= 1
            yield instance.id


def _at_once(env: EnvironmentState, count: int) -> int:
    strategy = env.config.strategy if env.config is not None else Strategy()
    return max(1, min(moves.surge(count, strategy), -(-count * strategy.batch // moves.WHOLE)))


def _is_replaced(env: EnvironmentState, instance: Instance, now: Instant) -> bool:
    """False while its process is in back-off, and for what a rollout decides about."""
    pause = env.backoff.get(backoff.key(instance.release, instance.process))
    return (pause is None or pause.until <= now) and not is_judged(env, instance)


def is_judged(env: EnvironmentState, instance: Instance) -> bool:
    """True for what a rollout forward launched itself: that it drifts speaks against its release. What a rollback
    launches is replaced like any other, and keeps nobody from rolling back."""
    rollout = env.rollout
    if rollout is None or rollout.phase is not Phase.FORWARD or rollout.kind is DeploymentKind.ROLLBACK:
        return False
    return instance.release == rollout.candidate and instance.launched_at >= rollout.started_at


def ended_first(env: EnvironmentState, wanted: Allocation, replaced: frozenset[InstanceId]) -> Allocation:
    """Return *wanted* with room for the end of what is *replaced*, where nothing may overlap (*recreate*): there it
    ends before the one that takes its place begins."""
    strategy = env.config.strategy if env.config is not None else None
    if env.rollout is not None and env.rollout.phase in (Phase.FORWARD, Phase.REVERTING):
        strategy = env.rollout.strategy
    if not replaced or strategy is None or strategy.kind is not StrategyKind.RECREATE:
        return wanted
    gone = Counter(env.instances[name].process for name in replaced)
    floor = {name: max(0, count - gone[name]) for name, count in wanted.floor.items()}
    held: Counter[str] = Counter()
    for holding in wanted.holdings:
        held[holding.process] += holding.total
    return replace(wanted, floor=floor, most={**wanted.most, **{name: held[name] for name in gone}})


def is_counted(env: EnvironmentState, instance: Instance) -> bool:
    """True when the end of *instance* is no news for the back-off: a person wanted it, or its drift was counted."""
    return bool(instance.replaced_for or (instance.drift and policy(env).answer is Answer.REPLACE))
