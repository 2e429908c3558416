"""Small values that the tests of the core share."""

from __future__ import annotations

from dataclasses import replace

from stelae.domain.digest import digest_of
from stelae.domain.environment import Environment, Strategy, StrategyKind
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.state import Outcome
from stelae.domain.units import SECOND
from stelae.testing.world import World

WEB = Process(name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP, path="/"), drain=20 * SECOND)
WORKER = Process(name="worker", command=("worker",), health=Health(probe=Probe.RUNNING))


def release(name: str, *processes: Process) -> Release:
    return Release(
        app="shop", environment="test", image=digest_of(name.encode()), processes=processes or (WEB, WORKER)
    )


def environment(
    kind: str = "rolling", *, web: int = 4, worker: int = 1, bake: int = 0, **strategy: int
) -> Environment:
    chosen = replace(Strategy(kind=StrategyKind(kind), min_healthy=0), **strategy)
    return Environment(
        app="shop", name="test", processes={"web": web, "worker": worker}, strategy=chosen, bake=bake * SECOND
    )


def world(kind: str = "rolling", **options: int) -> World:
    return World.of(environment(kind, **options))


def deployed(kind: str = "rolling", first: str = "v1", **options: int) -> World:
    """A world in which release *first* is stable."""
    made = world(kind, **options)
    made.request(release(first))
    made.run()
    assert made.env.stable == release(first).id
    return made


def outcome(made: World, deployment: str) -> Outcome | None:
    return made.env.deployments[deployment].outcome
