"""A whole Stelae on a real cluster where things go wrong: bad releases, a cluster that says no, a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.platforms.kubernetes import kinds
from tests.kubernetes.ground import Namespace, namespace, needed
from tests.kubernetes.test_main_job import REGISTRY
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [
    pytest.mark.kubernetes,
    needed,
    pytest.mark.skipif(not REGISTRY, reason="STELAE_TEST_REGISTRY names no registry"),
]
SERVES = 'command = ["/app/busybox", "httpd", "-f", "-vv", "-p", "8000", "-h", "/app/www"]'
BREAKS = 'command = ["/app/busybox", "sh", "-c", "echo it is broken; exit 7"]'
QUOTA = {
    "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
    "spec": {"hard": {"pods": "3"}},
}  # fmt: skip


def whole(folder: Path, body: Callable[[Machine, Namespace, Callable[[Any], Any]], None]) -> None:
    """Have *body* done with a Stelae that has deployed a first release to a namespace; it may await what it gives."""

    async def in_namespace() -> None:
        async with namespace(folder, "wrong") as place:
            loop = asyncio.get_running_loop()

            def wait(what: Any) -> Any:
                return asyncio.run_coroutine_threadsafe(what, loop).result(60)

            def job() -> None:
                more = f'platform = {{ kind = "kubernetes", namespace = "{place.name}", registry = "{REGISTRY}" }}'
                with Machine(seed=False) as machine:
                    machine.start(STELAE_KUBECONFIG=str(place.kubeconfig))
                    tiny.make(machine, kind="rolling", more=more)
                    machine.cli("deploy", "testing")
                    assert machine.ready() == (2, 2)
                    body(machine, place, wait)

            await asyncio.to_thread(job)

    asyncio.run(in_namespace())


def test_a_release_that_ends_is_reverted_and_what_it_said_is_told(tmp_path: Path) -> None:
    def body(machine: Machine, _: Namespace, __: Callable[[Any], Any]) -> None:
        before = machine.status()["release"]
        machine.edit("stelae.toml", SERVES, BREAKS).commit("broken")
        done = machine.cli("deploy", "testing", check=False)
        assert done.returncode == 1, done.stdout
        said = done.stdout + done.stderr
        assert "exited with status 7 before it was ready" in said, said
        assert "it is broken" in said, said
        assert machine.status()["release"] == before
        assert machine.ready() == (2, 2)

    whole(tmp_path, body)


def test_what_a_quota_does_not_let_in_is_reverted_with_the_clusters_words(tmp_path: Path) -> None:
    def body(machine: Machine, place: Namespace, wait: Callable[[Any], Any]) -> None:
        path = f"/api/v1/namespaces/{place.name}/resourcequotas"
        wait(place.admin._connection.ask("POST", path, "make a quota", body=QUOTA))
        machine.cli("scale", "testing", "web=3")
        machine.until("scaled", lambda: machine.ready() == (3, 3))
        tiny.version(machine, "2")
        done = machine.cli("deploy", "testing", check=False)
        assert done.returncode == 1, done.stdout
        assert "exceeded quota: small" in done.stdout + done.stderr, done.stdout + done.stderr
        assert machine.ready() == (3, 3)

    whole(tmp_path, body)


def test_a_command_runs_once_and_its_output_and_status_are_told(tmp_path: Path) -> None:
    def body(machine: Machine, _: Namespace, __: Callable[[Any], Any]) -> None:
        done = machine.cli("run", "testing", "--", "/app/busybox", "sh", "-c", "echo $STELAE_ENVIRONMENT")
        assert "testing" in done.stdout.split(), done.stdout
        failed = machine.cli("run", "testing", "--", "/app/busybox", "sh", "-c", "echo no; exit 5", check=False)
        assert failed.returncode == 1
        assert "exited with status 5" in failed.stdout + failed.stderr, failed.stdout + failed.stderr

    whole(tmp_path, body)


def test_a_controller_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    def body(machine: Machine, place: Namespace, wait: Callable[[Any], Any]) -> None:
        async def pods() -> dict[str, str]:
            found = await place.admin.list(kinds.POD)
            return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}

        before = wait(pods())
        machine.kill()
        machine.start(STELAE_KUBECONFIG=str(place.kubeconfig))
        machine.until("it knows what is there", lambda: machine.ready() == (2, 2))
        assert wait(pods()) == before, "a controller that starts touches nothing"
        tiny.version(machine, "2")
        deploying = machine.background("deploy", "testing")
        machine.until("a rollout is under way", lambda: machine.status()["state"] != "steady")
        machine.kill()
        machine.start(STELAE_KUBECONFIG=str(place.kubeconfig))
        assert deploying.wait(60) == 0, "who waits for a deployment waits for the next controller"
        deploying.communicate()
        assert machine.ready() == (2, 2)

    whole(tmp_path, body)
