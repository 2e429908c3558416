"""The double of a cluster does what a cluster does, as far as Stelae has to do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, Unreachable
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Object
from stelae.testing.kubernetes import Double, Program

SPACE = "shop"
PLACE = EnvironmentId("shop/production")
OWN = names.labels("h3", PLACE, "r" * 52, "web")
Body = Callable[[Double, Cluster], Awaitable[None]]


def deployment(count: int, name: str = "shop-web", **spec: Any) -> Object:
    """A Deployment of *count*, of *spec* more in its pods."""
    container = {"name": "app", "image": "registry/shop@sha256:" + "0" * 64,
                 "ports": [{"name": "serve", "containerPort": 8000}]}  # fmt: skip
    labels = OWN | {"set": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": count, "selector": {"matchLabels": {"set": name}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]} | spec},
        },
    }  # fmt: skip


def service(**selector: str) -> Object:
    """A Service of the pods that *selector* selects."""
    ports = [{"name": "serve", "port": 80, "targetPort": "serve"}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "labels": OWN},
            "spec": {"selector": selector, "ports": ports}}  # fmt: skip


def play(folder: Path, body: Body, **double: Any) -> None:
    """Have *body* done with a double and a cluster that follows it."""

    async def all_of_it() -> None:
        async with asyncio.timeout(60), Double(SPACE, **double) as there:
            cluster = there.cluster(folder, SPACE, installation="h3")
            await cluster.start()
            await cluster.synced()
            await body(there, cluster)

    asyncio.run(all_of_it())


async def until(true: Callable[[], object], what: str = "") -> None:
    """Wait until something is true."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def ready(cluster: Cluster) -> list[str]:
    """The pods that get requests, by the endpoints."""
    return sorted(
        each["targetRef"]["name"] for found in cluster.cache.slices(PLACE) for each in found["endpoints"]
        if each["conditions"]["ready"]
    )  # fmt: skip


def test_a_deployment_gets_pods_and_a_service_their_addresses(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await cluster.apply(deployment(3))
        await cluster.apply(service(set="shop-web"))
        await until(lambda: len(ready(cluster)) == 3)
        await until(lambda: {pod["status"]["phase"] for pod in cluster.cache.pods(PLACE)} == {"Running"})
        (found,) = cluster.cache.deployments(PLACE)
        await until(lambda: cluster.cache.deployments(PLACE)[0]["status"].get("readyReplicas") == 3)
        assert found["metadata"]["labels"] == OWN | {"set": "shop-web"}
        assert all("env" not in pod["spec"]["containers"][0] for pod in cluster.cache.pods(PLACE))

    play(tmp_path, body)


def test_the_cheapest_pod_goes_first(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await cluster.apply(deployment(3))
        await double.settled()
        await until(lambda: len(cluster.cache.pods(PLACE)) == 3)
        victim = cluster.cache.pods(PLACE)[0]["metadata"]["name"]
        cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-100"}}}
        assert await cluster.patch(kinds.POD, victim, cost)
        await cluster.patch(kinds.DEPLOYMENT, "shop-web", {"spec": {"replicas": 2}})
        await until(lambda: len(cluster.cache.pods(PLACE)) == 2)
        assert victim not in {pod["metadata"]["name"] for pod in cluster.cache.pods(PLACE)}

    play(tmp_path, body)


def test_a_pod_that_ends_leaves_the_endpoints_first_and_is_there_until_it_did(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await cluster.apply(service(set="shop-web"))
        hook = {"lifecycle": {"preStop": {"sleep": {"seconds": 20}}}}
        found = deployment(1, terminationGracePeriodSeconds=30)
        found["spec"]["template"]["spec"]["containers"][0] |= hook
        await cluster.apply(found)
        await until(lambda: ready(cluster))
        await cluster.patch(kinds.DEPLOYMENT, "shop-web", {"spec": {"replicas": 0}})
        await until(lambda: not ready(cluster))
        await until(lambda: "deletionTimestamp" in cluster.cache.pods(PLACE)[0]["metadata"])
        assert cluster.cache.pods(PLACE)[0]["status"]["phase"] == "Running"
        await until(lambda: not cluster.cache.pods(PLACE))

    play(tmp_path, body, pace=0.05)


def test_a_container_that_ends_is_restarted_in_place_and_how_it_ended_is_told(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await cluster.apply(deployment(1))
        await double.settled()
        await until(lambda: cluster.cache.pods(PLACE))
        name = cluster.cache.pods(PLACE)[0]["metadata"]["name"]

        def status() -> Object:
            (pod,) = cluster.cache.pods(PLACE)
            found: Object = pod["status"]["containerStatuses"][0]
            return found

        double.kubelet.exit(SPACE, name, 7)
        await until(lambda: status()["restartCount"] == 1 and status()["ready"])
        assert status()["lastState"]["terminated"]["exitCode"] == 7
        double.kubelet.exit(SPACE, name, 0, out_of_memory=True)
        await until(lambda: status()["restartCount"] == 2)
        assert status()["lastState"]["terminated"]["reason"] == "OOMKilled"
        assert [pod["metadata"]["name"] for pod in cluster.cache.pods(PLACE)] == [name]

    play(tmp_path, body)


def test_what_ends_at_once_is_started_later_and_later(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await cluster.apply(deployment(1))

        def waiting() -> object:
            pods = cluster.cache.pods(PLACE)
            found = pods[0]["status"].get("containerStatuses", [{}])[0] if pods else {}
            return (
                found.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff" and found["lastState"]
            )

        await until(waiting)

    play(tmp_path, body, programs=lambda _: Program(exits=3), pace=0.05)


def test_a_job_runs_once_and_its_end_and_output_are_told(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        container = {"name": "app", "image": "x", "command": ["true"]}
        spec = {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": OWN}, "spec": {"restartPolicy": "Never", "containers": [container]}},
        }
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "labels": OWN}, "spec": spec}
        await cluster.apply(job)
        await cluster.apply(job)
        await until(lambda: cluster.cache.jobs(PLACE)[0]["status"].get("failed") == 1)
        await until(lambda: cluster.cache.pods(PLACE)[0]["status"]["phase"] == "Failed")
        (pod,) = cluster.cache.pods(PLACE)
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
        lines = [line async for line in cluster.logs(pod["metadata"]["name"], follow=True)]
        assert [line.partition(" ")[2] for line in lines] == ["begins", "done"]
        await cluster.delete(kinds.JOB, "j")
        await until(lambda: not cluster.cache.pods(PLACE))

    play(tmp_path, body, programs=lambda _: Program(says=("begins", "done"), exits=4))


def test_what_was_applied_before_and_is_not_now_goes_and_what_others_wrote_stays(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        def config(**data: str) -> Object:
            return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": OWN}, "data": data}

        await cluster.apply(config(a="1", b="2"))
        await cluster.apply(config(c="3"), manager="another")
        found = await cluster.apply(config(a="4"))
        assert found["data"] == {"a": "4", "c": "3"}
        assert sorted(entry["manager"] for entry in found["metadata"]["managedFields"]) == ["another", "stelae"]
        version = found["metadata"]["resourceVersion"]
        assert (await cluster.apply(config(a="4")))["metadata"]["resourceVersion"] == version

    play(tmp_path, body)


def test_what_may_not_be_is_refused_in_the_servers_words(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        fixed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "immutable": True}
        await cluster.create(fixed | {"data": {"a": "1"}})
        with pytest.raises(Failed, match="field is immutable when `immutable` is set"):
            await cluster.apply(fixed | {"data": {"a": "2"}})
        with pytest.raises(Conflict, match='configmaps "c" already exists'):
            await cluster.create(fixed)
        with pytest.raises(Conflict, match="does not match the UID"):
            await cluster.delete(kinds.CONFIG_MAP, "c", uid="another")
        assert not await cluster.delete(kinds.CONFIG_MAP, "none")
        assert await cluster.get(kinds.POD, "none") is None
        assert await cluster.patch(kinds.POD, "none", {}) is None
        with pytest.raises(Failed, match='pods "none" not found'):
            _ = [line async for line in cluster.logs("none")]
        await cluster.delete(kinds.NAMESPACE, SPACE)
        with pytest.raises(Failed, match='namespaces "shop" not found'):
            await cluster.apply(deployment(1))

    play(tmp_path, body)


def test_it_can_be_told_to_be_away(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await double.faults.down()
        await until(lambda: not cluster.cache.fresh)
        with pytest.raises(Unreachable):
            await cluster.synced(0.01)
        await double.faults.up()
        await cluster.synced()
        assert await cluster.version() == "v1.36.2"

    play(tmp_path, body)


def test_a_person_can_talk_to_a_container(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        spec = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "x", "stdin": True}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": OWN}, "spec": spec}
        await cluster.apply(pod)
        await until(lambda: cluster.cache.pods(PLACE)[0]["status"]["phase"] == "Running")
        terminal = await cluster.attach("p", "app", tty=False)
        await terminal.write(b"a\nb\n")
        assert await terminal.read() == ("stdout", b"got a\n")
        assert await terminal.read() == ("stdout", b"got b\n")
        await terminal.resize(24, 80)
        terminal.close()
        again = await cluster.attach("p", "app", tty=False)
        await again.write(b"exit 5\n")
        assert await again.read() is None
        assert await again.read() is None
        await again.write(b"nobody reads this")
        await until(lambda: cluster.cache.pods(PLACE)[0]["status"]["phase"] == "Failed")
        with pytest.raises(Failed, match="attach to pod p"):
            await cluster.attach("p", "app", tty=False)

    play(tmp_path, body, programs=lambda _: Program(talks=True))
