"""Gates: when a rollout's step is done, and when a revert is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stelae.core import analysis, checks, jobs, moves, strategies
from stelae.core.target import live_members, move
from stelae.core.traffic import entry, scaled, shares
from stelae.core.verdict import Answer, Verdict
from stelae.domain.allocation import FULL_WEIGHT, Allocation, InstanceId, RouteKind
from stelae.domain.observation import Observation
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState, Instance, Rollout
from stelae.domain.strategy import Gate, StrategyKind
from stelae.domain.units import Duration, Instant


def is_last(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when the rollout is at the end of its path, as long as it is now."""
    return rollout.step >= strategies.steps(move(env, rollout)) - 1


def soak(env: EnvironmentState, rollout: Rollout) -> Duration:
    """Return for how long the present step is held."""
    return 0 if rollout.hurried else gate(env, rollout).soak


def gate(env: EnvironmentState, rollout: Rollout) -> Gate:
    """Return what the present step waits for once it is held."""
    return strategies.gate(move(env, rollout), rollout.step)


def is_to_hold(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when the step waits for something from when it is held on, and does not yet."""
    waits = gate(env, rollout) != Gate() or rollout.strategy.analysis is not None
    return waits and rollout.held_at is None and not rollout.hurried


def verdict(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Verdict:
    """Return whether *rollout* may leave its step: PASS when the step is held first, and when its gate is open."""
    says = [] if rollout.hurried else list(_evidence(env, rollout, seen, now))
    failed = next((one for one in says if one.answer is Answer.FAIL), None)
    if failed is not None:
        return failed
    if not is_held(env, rollout, seen, now):
        return Verdict(answer=Answer.WAIT, reason="its instances are not all ready")
    if rollout.held_at is None and not rollout.hurried and not analysis.may_be_held(env, rollout, seen):
        return Verdict(answer=Answer.WAIT, reason=analysis.UNKNOWN)
    if rollout.hurried or rollout.held_at is None:
        return Verdict(answer=Answer.PASS)
    says += _waits(env, rollout, now)
    opened = rollout.opened == rollout.step
    for answer in (Answer.WAIT,) if opened else (Answer.WAIT, Answer.PERSON):
        found = next((one for one in says if one.answer is answer), None)
        if found is not None:
            return found
    reasons = (one.reason for one in says if one.answer is Answer.PASS and one.reason)
    return Verdict(answer=Answer.PASS, reason="; ".join(reasons))


def _evidence(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Iterator[Verdict]:
    """What speaks for or against the candidate. A FAIL counts at once, even before the step is held."""
    job = gate(env, rollout).job
    if job:
        yield jobs.gate(env, rollout, job, now)
    yield analysis.judge(env, rollout, seen, now)
    yield checks.gate(env, rollout, gate(env, rollout), now)


def _waits(env: EnvironmentState, rollout: Rollout, now: Instant) -> Iterator[Verdict]:
    """What else the step waits for."""
    assert rollout.held_at is not None
    wanted = gate(env, rollout)
    if now < rollout.held_at + wanted.soak:
        yield Verdict(answer=Answer.WAIT, reason="its soak is not over")
    if wanted.manual:
        yield Verdict(answer=Answer.PERSON, reason=f"whether step {rollout.step + 1} may go on{_preview(env)}")


def _preview(env: EnvironmentState) -> str:
    """Say where the candidate can be looked at while it has none of the traffic, or not all."""
    hosts = [route.name for route in env.allocation.routes if route.kind is RouteKind.HOST]
    return f"; look at it: {', '.join(hosts)}" if hosts else ""


def is_held(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> bool:
    """True when the step's allocation is held: the candidate's instances have been ready for long enough,
    and the traffic is where the step wants it. The old release's health is not asked: a fix must get in."""
    way = move(env, rollout)
    step = strategies.next_step(way, rollout.step)
    candidate = way.candidate
    members = live_members(env)
    for held in step.holdings:
        if held.release == candidate.id:
            ready = _ready(members.get((held.release, held.process), ()), now, rollout.strategy.min_healthy)
            if ready < held.total:
                return False
    if rollout.strategy.kind is StrategyKind.RECREATE and rollout.step == 0 and not way.direct:
        return _alone(env, candidate.id)
    return _traffic_is_there(env, step, candidate, seen)


def reverted(env: EnvironmentState, rollout: Rollout, seen: Observation) -> bool:
    """True when the stable release holds all that is wanted and the candidate gets no traffic."""
    if env.stable is None or env.down:
        return not seen.table
    stable = env.releases[env.stable]
    gone = rollout.candidate
    if gone != env.stable and any(_release_of(env, name) == gone for name in seen.table):
        return False
    step = moves.steady(stable, env.wanted)
    members = live_members(env)
    enough = all(_ready(members.get((held.release, held.process), ())) >= held.total for held in step.holdings)
    return enough and _traffic_is_there(env, step, stable, seen)


def _ready(members: Iterable[Instance], now: Instant = 0, for_long: Duration = 0) -> int:
    """How many of *members* are ready, and have been for as long as that."""
    return sum(
        1
        for instance in members
        if instance.ready_at is not None and (for_long == 0 or now - instance.ready_at >= for_long)
    )


def _alone(env: EnvironmentState, release: ReleaseId) -> bool:
    return not any(
        instance.release != release and instance.exit is None and not instance.failed
        for instance in env.instances.values()
    )


def _traffic_is_there(env: EnvironmentState, step: Allocation, release: Release, seen: Observation) -> bool:
    """True when the router gives *release* what the step does: nothing, a share, or (weight full) everything."""
    process = entry(release)
    serving = step.holding(release.id, process.name).serving if process is not None else 0
    weight = step.weights.get(release.id)
    if not serving or (weight == 0 and not step.routes):
        return True
    groups: dict[ReleaseId | None, list[InstanceId]] = {}
    for name in seen.table:
        groups.setdefault(_release_of(env, name), []).append(name)
    if len(groups.get(release.id, ())) < serving or env.routes != step.routes:
        return False
    if weight is None:
        others = {held.release for held in step.holdings if held.release != release.id and held.serving}
        return bool(others) or len(groups) == 1
    if weight == FULL_WEIGHT:
        return len(groups) == 1
    known = {name: names for name, names in groups.items() if name is not None}
    given = {name: weight for name, weight in seen.table.items() if weight}
    return given == scaled(shares(known, step.weights, {}))


def _release_of(env: EnvironmentState, name: InstanceId) -> ReleaseId | None:
    instance = env.instances.get(name)
    return instance.release if instance else None
