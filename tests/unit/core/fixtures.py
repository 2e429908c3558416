"""Small values that the tests of the core share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.core.request import rules
from stelae.domain.allocation import InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState, Instance, Outcome, Rollout
from stelae.domain.strategy import Step, Strategy, StrategyKind
from stelae.domain.units import SECOND
from stelae.testing.world import World

WEB = Process(name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP, path="/"), drain=20 * SECOND)
WORKER = Process(name="worker", command=("worker",), health=Health(probe=Probe.RUNNING))


STEPS = tuple(Step(weight=weight) for weight in (500, 2_500, 5_000))
"""A canary at 5, 25 and 50 %."""


def admit(*given: Any, **more: Any) -> None:
    """Apply all rules for what may come in, as a deployment does."""
    for rule in rules(*given, **more):
        rule()


def release(name: str, *processes: Process) -> Release:
    return Release(
        app="shop", environment="test", image=digest_of(name.encode()), processes=processes or (WEB, WORKER)
    )


def environment(
    kind: str = "rolling", *, web: int = 4, worker: int = 1, bake: int = 0, **strategy: Any
) -> Environment:
    chosen = replace(Strategy(kind=StrategyKind(kind), min_healthy=0), **strategy)
    if chosen.kind is StrategyKind.CANARY and not chosen.steps:
        chosen = replace(chosen, steps=STEPS)
    return Environment(
        app="shop", name="test", processes={"web": web, "worker": worker}, strategy=chosen, bake=bake * SECOND
    )


def world(kind: str = "rolling", **options: Any) -> World:
    return World.of(environment(kind, **options))


def deployed(kind: str = "rolling", first: str = "v1", **options: Any) -> World:
    """A world in which release *first* is stable."""
    made = world(kind, **options)
    made.request(release(first))
    made.run()
    assert made.env.stable == release(first).id
    return made


def outcome(made: World, deployment: str) -> Outcome | None:
    return made.env.deployments[deployment].outcome


V1, V2 = release("v1"), release("v2")
SHOP = EnvironmentId("shop/test")
ROLLOUT = Rollout(
    deployment="d-2", kind=DeploymentKind.DEPLOY, candidate=V2.id, stable=V1.id, strategy=environment().strategy,
    actor="ana", started_at=100, step_at=100,
)  # fmt: skip
"""A deployment of V2 that has just begun, where V1 is stable."""


def one(name: InstanceId, **more: Any) -> Instance:
    """An instance of V1 that was launched at 0."""
    return replace(Instance(id=name, release=V1.id, process="web", launched_at=0, started=True), **more)


def state(*instances: Instance, **more: Any) -> EnvironmentState:
    """An environment in which V1 is stable, with these instances."""
    made = EnvironmentState(
        id=SHOP, config=environment(), wanted={"web": 2, "worker": 1}, stable=V1.id, stable_since=5, stables=(V1.id,),
        releases={V1.id: V1, V2.id: V2}, instances={item.id: item for item in instances}, actions=7, applied=6,
    )  # fmt: skip
    return replace(made, **more)
