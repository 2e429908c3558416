"""What is told of candidates that do not start: by the cluster's events, the output, and the set itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from stelae.core import failures
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import Environment, environment_id
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.state import DeploymentKind
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.domain.units import SECOND
from stelae.platforms.kubernetes import kinds, names, observe
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.objects import Placed
from stelae.platforms.kubernetes.reasons import warnings, with_reasons
from stelae.testing.contract_kubernetes import INSTALLATION
from stelae.testing.kubernetes import Double, Program
from stelae.testing.set_subject import release
from stelae.testing.set_world import SetWorld

SPACE = "shop"
CHOICE = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry/shop")
SERVING = release("serving", ("serve",))
SET = (SERVING.id, "web")
POD = InstanceId("pod-1")


def deploying() -> SetWorld:
    """The environment, while it gets its first release."""
    world = SetWorld.of(Environment(app="shop", name="test", processes={"web": 2}, platform=CHOICE))
    world.request(SERVING, Strategy(kind=StrategyKind.ROLLING), DeploymentKind.DEPLOY)
    return world


def event(kind: str, reason: str, at: str, **more: object) -> Object:
    return {"type": kind, "reason": reason, "message": f"because of {reason}", "lastTimestamp": at, **more}


def test_warnings_are_told_once_and_in_their_order() -> None:
    found = (
        event("Warning", "Unhealthy", "2026-01-01T00:00:09Z"),
        event("Normal", "Pulled", "2026-01-01T00:00:01Z"),
        event("Warning", "FailedMount", "", eventTime="2026-01-01T00:00:02.000001Z"),
        event("Warning", "Unhealthy", "2026-01-01T00:00:05Z"),
    )
    assert warnings(found) == ["FailedMount: because of FailedMount", "Unhealthy: because of Unhealthy"]
    assert warnings(()) == []


def test_a_candidate_that_is_about_to_be_given_up_is_told_with_events_and_output(tmp_path: Path) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), Double(SPACE, programs=lambda _: Program(ready=None)) as double:
            cluster = double.cluster(tmp_path, SPACE, installation=INSTALLATION)
            pod = {"metadata": {"name": "pod-1", "namespace": SPACE, "labels": names.labels(
                INSTALLATION, environment_id("shop", "test"), SERVING.id, "web")},
                "spec": {"containers": [{"name": "app", "image": "x"}]}, "status": {"phase": "Pending"}}  # fmt: skip
            double.table.put(kinds.POD, pod)
            said = event("Warning", "Unhealthy", "2026-01-01T00:00:09Z")
            said |= {"metadata": {"name": "e", "namespace": SPACE}, "involvedObject": {"name": "pod-1"}}
            double.table.put(kinds.EVENT, said)
            await double.settled()
            await cluster.start()
            await cluster.synced()
            world = deploying()
            world.record(ev.InstanceSeen(instance=POD, release=SERVING.id, process="web"))
            (web,) = SERVING.processes
            view = Seen(id=POD, phase=Phase.STARTING, release=SERVING.id, process="web")
            early = Observation(as_of=world.now, applied=0, instances={view.id: view})
            assert await with_reasons(cluster, world.env, early) == early, "nobody asked why yet"
            late = replace(early, as_of=world.now + web.health.start)
            told = (await with_reasons(cluster, world.env, late)).instances[view.id]
            assert told.last_lines == ("Unhealthy: because of Unhealthy", "begins")

    asyncio.run(whole())


def test_a_set_that_gets_no_instances_ends_the_rollout_with_the_reason() -> None:
    world = deploying()
    rollout = world.env.rollout
    assert rollout is not None
    (web,) = SERVING.processes
    seen = Observation(as_of=world.now, applied=0, refused={SET: "exceeded quota: shop"})
    early = rollout.step_at + web.health.start - SECOND
    assert failures.failure(world.env, rollout, seen, early) is None, "it may get better by itself"
    found = failures.failure(world.env, rollout, seen, rollout.step_at + web.health.start)
    assert found is not None
    assert found.reason == "no instance of web could be made within 30 s: exceeded quota: shop"
    other = replace(SERVING, settings={"KIND": "another"})
    elsewhere = replace(seen, refused={(other.id, "web"): "it is of no candidate"})
    assert failures.failure(world.env, rollout, elsewhere, rollout.step_at + web.health.start) is None


def test_a_set_says_what_its_cluster_does_not_take(tmp_path: Path) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), Double(SPACE) as double:
            cluster = double.cluster(tmp_path, SPACE, installation=INSTALLATION)
            place = Placed(
                installation=INSTALLATION, environment=environment_id("shop", "test"), choice=CHOICE, image="x"
            )
            labels = names.labels(INSTALLATION, place.environment, SERVING.id, "web")
            condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
            double.controllers.paused = True
            double.table.put(kinds.DEPLOYMENT, {
                "metadata": {"name": "web", "namespace": SPACE, "labels": labels}, "spec": {"replicas": 2},
                "status": {"conditions": [condition]},
            })  # fmt: skip
            await cluster.start()
            await cluster.synced()
            world = deploying()
            seen = observe.observation(cluster.cache, place, world.env, world.now, {})
            assert dict(seen.refused) == {SET: "exceeded quota"}

    asyncio.run(whole())
