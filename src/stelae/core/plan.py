"""Plans: what a deployment or a rollback would do if it were asked for now. Pure, and recorded nowhere.

A plan is made by the functions that carry a deployment out: the request is folded as if it were recorded, and each
step is the target that the loop would hold there. So what a plan shows is what happens, as long as nobody else moves
the environment; its ``index`` says whether somebody did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from stelae.core import strategies
from stelae.core.evolve import evolve, evolve_all
from stelae.core.target import move, target
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.allocation import FULL_WEIGHT, Allocation
from stelae.domain.environment import EnvironmentId
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome, Phase
from stelae.domain.strategy import Gate, Strategy
from stelae.domain.units import Instant

_DEPLOYMENT = "planned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Serving instances of a process: those that the environment should have now, and in the end."""

    now: int
    then: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would happen. ``index`` is the environment's revision: as long as it stays, the plan holds.

    ``previous`` is the stable release, None for a first deployment. ``steps`` are the allocations of the rollout's
    path and ``after`` is what is held when it has succeeded; their generations mean nothing. ``settings`` says of
    each name that differs whether it is ``added``, ``changed`` or ``removed``, and ``secret_env`` of each secret that
    is an environment variable too. ``warm`` is until when each replaced
    release would stay warm if the rollout ended now. ``gates`` are what each step waits for once it is held.
    ``nothing`` is true when the release serves already.
    """

    environment: EnvironmentId
    index: int
    kind: DeploymentKind
    release: Release
    previous: Release | None
    strategy: Strategy
    counts: Mapping[str, Count]
    settings: Mapping[str, str]
    secret_env: Mapping[str, str]
    steps: tuple[Allocation, ...]
    after: Allocation
    warm: Mapping[ReleaseId, Instant]
    nothing: bool
    gates: tuple[Gate, ...] = ()


def ratio(held: Allocation, releases: Mapping[ReleaseId, Release]) -> dict[ReleaseId, int]:
    """Return the share of the requests, in basis points, that each release of *held* gets where that goes by how many
    instances are ready; nothing where the weights say it."""
    doors = {name: entry(release) for name, release in releases.items()}
    counts: dict[ReleaseId, int] = {}
    for item in held.holdings:
        door = doors.get(item.release)
        if door is not None and item.process == door.name and item.serving:
            counts[item.release] = counts.get(item.release, 0) + item.serving
    if held.weights or len(counts) < 2:
        return {}
    total = sum(counts.values())
    return {name: count * FULL_WEIGHT // total for name, count in counts.items()}


def plan(env: EnvironmentState, release: Release, strategy: Strategy, kind: DeploymentKind, now: Instant) -> Plan:
    """Return what a request to move *env* to *release* would do; a rollout that is under way is superseded."""
    asked = _asked(env, release, strategy, kind)
    done = evolve(asked, ev.RolloutEnded(deployment=_DEPLOYMENT, outcome=Outcome.SUCCEEDED), now)
    before, after = _held(replace(env, rollout=None)), _held(done)
    previous = env.releases[env.stable] if env.stable else None
    return Plan(
        environment=env.id,
        index=env.revision,
        kind=kind,
        release=release,
        previous=previous,
        strategy=strategy,
        counts={
            name: Count(now=_serving(before, name), then=_serving(after, name)) for name in _names((before, after))
        },
        settings=_differences(previous.settings if previous else {}, release.settings),
        secret_env=_differences(
            dict.fromkeys(previous.secret_env if previous else (), ""), dict.fromkeys(release.secret_env, "")
        ),
        steps=tuple(_path(asked)),
        after=after,
        warm=done.warm,
        nothing=env.stable == release.id and env.rollout is None and not env.down,
        gates=tuple(_gates(asked)),
    )


def _asked(env: EnvironmentState, release: Release, strategy: Strategy, kind: DeploymentKind) -> EnvironmentState:
    """The environment once the request is recorded; it takes the place of a rollout that is under way."""
    requested = ev.DeploymentRequested(
        deployment=_DEPLOYMENT, deployment_kind=kind, release=release, strategy=strategy
    )
    begun = ev.RolloutPhase(deployment=_DEPLOYMENT, phase=Phase.FORWARD)  # whatever it has to wait for first
    return evolve_all(env, (requested, begun), 0)


def _path(asked: EnvironmentState) -> Iterable[Allocation]:
    rollout = asked.rollout
    assert rollout is not None
    for step in range(strategies.steps(move(asked, rollout))):
        yield _held(replace(asked, rollout=replace(rollout, step=step)))


def _gates(asked: EnvironmentState) -> Iterable[Gate]:
    assert asked.rollout is not None
    way = move(asked, asked.rollout)
    return (strategies.gate(way, step) for step in range(strategies.steps(way)))


def _held(env: EnvironmentState) -> Allocation:
    """What *env* should hold, whatever its instances do at the moment: so the time does not matter either."""
    return replace(target(replace(env, instances={}, backoff={}), 0), generation=0)


def _serving(held: Allocation, process: str) -> int:
    return sum(item.serving for item in held.holdings if item.process == process)


def _names(allocations: Iterable[Allocation]) -> list[str]:
    return sorted({item.process for held in allocations for item in held.holdings if item.serving})


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in sorted({*old, *new}):
        if name not in old:
            found[name] = "added"
        elif name not in new:
            found[name] = "removed"
        elif old[name] != new[name]:
            found[name] = "changed"
    return found
