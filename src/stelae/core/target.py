"""The target: what an environment should hold, as a function of what is recorded and of the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from stelae.core import backoff, moves, replacing, strategies
from stelae.core.moves import Move
from stelae.core.native import exact, is_native, of_key
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState, Instance, Phase, Rollout
from stelae.domain.strategy import StrategyKind
from stelae.domain.units import Instant

BEFORE = (Phase.WAITING, Phase.PREPARING)
"""Phases in which a rollout holds nothing of its candidate."""


def target(env: EnvironmentState, now: Instant) -> Allocation:
    """Return the allocation to hold now; its generation is one more than the present one's where it differs."""
    wanted = _wanted(env)
    hosts = env.config.routed_hosts if env.config else ()
    replaced = frozenset(replacing.condemned(env, now))
    wanted = replace(
        replacing.ended_first(env, wanted, replaced),
        hosts=hosts,
        condemned=replaced | frozenset(_hopeless(env, now)),
        holdings=tuple(_held_back(env, wanted.holdings, now)),
    )
    if wanted.same_target(env.allocation):
        return env.allocation
    return replace(wanted, generation=env.allocation.generation + 1)


def move(env: EnvironmentState, rollout: Rollout) -> Move:
    """Return *rollout* as the strategies see it."""
    return Move(
        strategy=rollout.strategy,
        wanted=env.wanted,
        candidate=env.releases[rollout.candidate],
        stable=env.releases[env.stable] if env.stable else None,
        keep=bool(env.config and env.config.bake),
        exact=exact(env),
    )


def live(instance: Instance) -> bool:
    """True for an instance that was launched, has not ended, and was not asked to end."""
    return not instance.failed and instance.exit is None and instance.stopped_at is None


def live_members(env: EnvironmentState) -> Mapping[tuple[ReleaseId, str], list[Instance]]:
    """Return the live instances by release and process, in the order of the record."""
    found: dict[tuple[ReleaseId, str], list[Instance]] = {}
    for instance in env.instances.values():
        if live(instance):
            found.setdefault((instance.release, instance.process), []).append(instance)
    return found


def _wanted(env: EnvironmentState) -> Allocation:
    if env.down:
        return Allocation()
    rollout = env.rollout
    if rollout is not None and rollout.phase in BEFORE:
        rollout = None  # it holds nothing yet: all stays as it was
    if rollout is not None and rollout.phase is Phase.FORWARD:
        way = move(env, rollout)
        if way.direct and _must_not_overlap(env, rollout.strategy.kind, way.candidate):
            return Allocation()
        return strategies.next_step(way, rollout.step)
    if env.stable is None:
        return Allocation()
    stable = env.releases[env.stable]
    usual = env.config.strategy.kind if env.config else None
    if _must_not_overlap(env, rollout.strategy.kind if rollout else usual, stable):
        return Allocation()
    steady = moves.steady(stable, env.wanted)
    if rollout is not None or usual is StrategyKind.RECREATE:
        return steady  # nothing of another release stays warm where nothing may overlap
    warm = [held for name in env.warm for held in moves.warm(env.releases[name], env.wanted)]
    return replace(steady, holdings=(*steady.holdings, *warm))


def _must_not_overlap(env: EnvironmentState, kind: StrategyKind | None, release: Release) -> bool:
    """With *recreate* all of another release must have ended before the first of *release* starts."""
    if kind is not StrategyKind.RECREATE:
        return False
    there = [item for item in env.instances.values() if item.exit is None and not item.failed]
    others = any(item.release != release.id for item in there)
    others = others or any(count and of_key(name)[0] != release.id for name, count in env.sets.items())
    return others and not any(item.release == release.id and live(item) for item in there)


def given_up_at(env: EnvironmentState, instance: Instance) -> Instant | None:
    """Return when *instance*, which runs and is not ready, has had all the time that it gets to be ready."""
    if instance.ready_at is not None or not live(instance):
        return None
    process = env.releases[instance.release].process(instance.process)
    if process is None:
        return None
    since = instance.launched_at if instance.unready_at is None else instance.unready_at
    return since + process.health.start


def _hopeless(env: EnvironmentState, now: Instant) -> Iterator[InstanceId]:
    """Instances that hang: they are replaced as soon as one may be launched, except those that the rollout itself
    launched, over which it decides. Where the platform keeps sets, what was never ready is left to it: another one
    would have to wait for the same."""
    judged = env.rollout if env.rollout is not None and env.rollout.phase is Phase.FORWARD else None
    for instance in env.instances.values():
        ours = judged is not None and instance.launched_at >= judged.started_at
        if judged is not None and ours and instance.release == judged.candidate:
            continue
        limit = given_up_at(env, instance)
        if limit is None or limit > now or (is_native(env) and not instance.ever_ready):
            continue
        pause = env.backoff.get(backoff.key(instance.release, instance.process))
        if pause is None or pause.until <= now:
            yield instance.id


def _held_back(env: EnvironmentState, holdings: tuple[Holding, ...], now: Instant) -> Iterator[Holding]:
    """While a process is in back-off it is not launched again, and nothing that runs is taken away. A platform that
    keeps sets has a back-off of its own."""
    pauses = {} if is_native(env) else env.backoff
    members = live_members(env) if any(pause.until > now for pause in pauses.values()) else {}
    for held in holdings:
        pause = pauses.get(backoff.key(held.release, held.process))
        if pause is None or pause.until <= now:
            yield held
            continue
        running = len(members.get((held.release, held.process), ()))
        serving = min(held.serving, running)
        yield replace(held, serving=serving, warm=min(held.warm, running - serving))
