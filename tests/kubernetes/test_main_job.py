"""A whole Stelae holds an environment on a real cluster: deploys, scales, rolls back, and takes it away.

``STELAE_TEST_REGISTRY`` (``HOST:PORT/PATH``) is where both this machine and the cluster's nodes find images; without
it there is no test.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from stelae.domain.errors import Failed
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.objects import Object
from tests.kubernetes.ground import Namespace, namespace, needed, within
from tests.real import tiny
from tests.real.machine import Machine

REGISTRY = os.environ.get("STELAE_TEST_REGISTRY", "")
pytestmark = [
    pytest.mark.kubernetes,
    needed,
    pytest.mark.skipif(not REGISTRY, reason="STELAE_TEST_REGISTRY names no registry"),
]


FOREIGN: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "foreign"},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "foreign",
                "image": "busybox",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


async def _there(place: Namespace) -> dict[str, int]:
    """The Deployments, and how many instances each is to have."""
    client = place.cluster("")
    try:
        found = await client.list(kinds.DEPLOYMENT)
        return {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}
    finally:
        await client.close()


def test_a_release_is_deployed_scaled_replaced_and_rolled_back(tmp_path: Path) -> None:
    async def body() -> None:
        async with namespace(tmp_path, "main") as place:
            await asyncio.to_thread(_job, place, asyncio.get_running_loop())

    asyncio.run(body())


async def _guard(place: Namespace, printed: list[Object], foreign: Object) -> None:
    """Apply the policy that was *printed*, and wait until it counts: a *foreign* pod is refused."""
    for found in printed:
        await place.admin.apply(found)
    async with asyncio.timeout(30):
        while not await _refused(place, foreign):
            await asyncio.sleep(0.1)


async def _as_rendered(place: Namespace, rendered: list[Object]) -> None:
    """What is printed for others to apply is what Stelae applied."""
    assert {found["kind"] for found in rendered} >= {"Deployment", "Service", "PodDisruptionBudget"}
    for found in rendered:
        there = await place.admin.get(kinds.of(found), found["metadata"]["name"])
        assert within(found, there), (found, there)


async def _refused(place: Namespace, pod: Object) -> bool:
    try:
        await place.admin.create(pod, dry_run=True)
    except Failed as error:
        return "not the image of a recorded release" in error.message
    return False


def _job(place: Namespace, loop: asyncio.AbstractEventLoop) -> None:
    def deployments() -> dict[str, int]:
        return asyncio.run_coroutine_threadsafe(_there(place), loop).result(30)

    more = f'platform = {{ kind = "kubernetes", namespace = "{place.name}", registry = "{REGISTRY}" }}'
    with Machine(seed=False) as machine:
        machine.start(STELAE_KUBECONFIG=str(place.kubeconfig))
        tiny.make(machine, kind="rolling", more=more)
        printed = json.loads(machine.cli("kubernetes", "policy", "testing", "--json").stdout)["objects"]
        asyncio.run_coroutine_threadsafe(_guard(place, printed, FOREIGN), loop).result(60)
        print(machine.cli("deploy", "testing").stdout)
        assert machine.ready() == (2, 2)
        rendered = json.loads(machine.cli("render", "testing", "--json").stdout)["objects"]
        asyncio.run_coroutine_threadsafe(_as_rendered(place, rendered), loop).result(60)
        (first,) = deployments()
        machine.cli("scale", "testing", "web=3")
        machine.until("scaled", lambda: machine.ready() == (3, 3))
        assert deployments() == {first: 3}
        tiny.version(machine, "2")
        print(machine.cli("deploy", "testing").stdout)
        assert machine.ready() == (3, 3)
        machine.until("the old set is empty", lambda: deployments()[first] == 0)
        print(machine.cli("rollback", "testing").stdout)
        machine.until("the new set is empty", lambda: sorted(deployments().values()) == [0, 3])
        assert deployments()[first] == 3, "the release that it was rolled back to is in the set that there was"
        print(machine.cli("status").stdout)
        print(machine.cli("down", "tiny").stdout)
        machine.until("nothing is left", lambda: deployments() == {})
        there = asyncio.run_coroutine_threadsafe(place.admin.get(kinds.NAMESPACE, place.name), loop).result(30)
        assert there is not None
        assert "image.stelae.dev" not in str(there["metadata"].get("annotations")), "nothing may come in any more"
