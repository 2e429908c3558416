"""What a person does with an app on a real cluster from day to day, and what they read when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.ground import needed
from tests.kubernetes.whole import Whole, registry_needed
from tests.real.registries import Registry as Guarded
from tests.real.registries import auth_file

pytestmark = [pytest.mark.kubernetes, needed, registry_needed, pytest.mark.timeout(600)]

TWO = """[env.testing]
platform = PLATFORM
processes = { web = 2 }
strategy = { kind = "rolling", batch = "100%", min_healthy = "0s" }

[env.production]
platform = PLATFORM
processes = { web = 2 }
promote_from = "testing"
strategy = { kind = "blue-green", min_healthy = "0s" }
bake = "10m"
settings = { COLOUR = "blue" }
"""
ONE = """[env.testing]
platform = PLATFORM
processes = { web = 2 }
strategy = { kind = "rolling", batch = "100%", min_healthy = "0s", progress = "60s" }
"""
SERVICE = "swift-testing-web"


@pytest.fixture
def whole(namespace: str) -> Iterator[Whole]:
    with Whole(namespace) as made:
        yield made


def releases(whole: Whole, service: str) -> set[str]:
    """Return the releases that a Service leads requests to."""
    addresses = {address.rpartition(":")[0] for address in whole.addresses(service)}
    pods = [pod for pod in whole.pods() if pod["status"].get("podIP") in addresses]
    assert len(pods) == len(addresses)
    return {pod["metadata"]["labels"]["stelae.dev/release"] for pod in pods}


def test_from_a_first_deployment_to_the_end(whole: Whole) -> None:
    machine = whole.environments(TWO).machine
    assert "done in" in machine.cli("deploy", "testing").stdout
    assert machine.ready() == (2, 2)
    first = machine.status()["image"]
    machine.cli("promote", "testing", "production")
    assert machine.status("production")["image"] == first
    at = machine.client.get("/v1/ping")["size"]
    machine.cli("scale", "production", "web=3")
    machine.until("scaled", lambda: machine.ready("production") == (3, 3))
    machine.until("all get requests", lambda: len(whole.addresses("swift-production-web")) == 3)

    whole.next()
    machine.cli("deploy", "testing")
    machine.cli("promote", "testing", "production")
    second = machine.status("production")
    assert second["image"] != first
    assert releases(whole, "swift-production-web") == {_release(machine.json("show", second["release"]))}
    machine.cli("rollback", "production")
    assert machine.status("production")["image"] == first
    assert len(releases(whole, "swift-production-web")) == 1

    output = machine.cli(
        "run", "production", "--", "python3", "-c", "import os; print('colour', os.environ['COLOUR'])"
    )
    assert "colour blue" in output.stdout
    history = machine.cli("history", "production").stdout
    for word in ("d-2: deploy of", "rollback of", "web scaled to 3"):
        assert word in history, history
    then = machine.cli("state", "production", "--at", f"@{at}").stdout
    assert first[7:19] in then
    now = machine.cli("state", "production").stdout
    for pod in whole.pods():
        labels = pod["metadata"]["labels"]
        if labels["stelae.dev/environment"] == "production" and "stelae.dev/run" not in labels:
            assert pod["metadata"]["name"] in now
    machine.until("all is what its release says", lambda: machine.cli("verify", check=False).returncode == 0)
    machine.cli("down", "swift")
    machine.until("nothing is left", lambda: not running(whole) and not whole.objects("deployments"), 90)
    assert [one for one in whole.objects("services") if "stelae.dev/app" in one["metadata"]["labels"]] == []


def test_what_instances_print_is_read(whole: Whole) -> None:
    machine = whole.environments(ONE).machine
    machine.edit("swift/__main__.py", "def main() -> None:", "def main() -> None:\n    os.write(1, b'it begins\\n')")
    machine.commit("it says something")
    machine.cli("deploy", "testing")
    lines = machine.cli("logs", "testing").stdout.splitlines()
    assert sum("it begins" in line for line in lines) == 2, lines


def running(whole: Whole) -> list[str]:
    """Return the pods that there are, but for those of runs, which stay for their output."""
    pods = [pod["metadata"] for pod in whole.objects("pods")]
    return [pod["name"] for pod in pods if "stelae.dev/run" not in pod["labels"]]


def _release(shown: dict[str, object]) -> str:
    return str(shown["release"])


def reason(whole: Whole) -> str:
    """Deploy what does not work; return why the rollout was reverted, as a person reads it."""
    done = whole.machine.cli("deploy", "testing", check=False)
    assert done.returncode == 1, done.stdout
    said = done.stdout + done.stderr
    print(said)
    return said


def kept(whole: Whole, before: set[str]) -> None:
    """What served before serves on."""
    whole.machine.until("what is new is gone", lambda: len(whole.pods()) == 2, 120)
    assert releases(whole, SERVICE) == before


def test_a_program_that_ends_again_and_again(whole: Whole) -> None:
    whole.environments(ONE).machine.cli("deploy", "testing")
    before = releases(whole, SERVICE)
    whole.machine.edit("swift/__main__.py", "import _signal", "raise SystemExit('no database')\nimport _signal")
    whole.machine.commit("it ends")
    said = reason(whole)
    assert "status 1" in said
    assert "no database" in said
    kept(whole, before)


def test_no_node_has_room(whole: Whole) -> None:
    whole.environments(ONE).machine.cli("deploy", "testing")
    before = releases(whole, SERVICE)
    whole.machine.edit("stelae.toml", 'memory = "64MiB"', 'memory = "4096GiB"').commit("it is large")
    assert "Insufficient memory" in reason(whole)
    kept(whole, before)


def test_an_image_that_no_node_may_pull(namespace: str, tmp_path: Path) -> None:
    """The registry lets the controller in, and nobody has given the nodes its password."""
    registry = Guarded(tmp_path / "registry", password=True)
    auth = auth_file(tmp_path / "auth.json", registry.address)
    try:
        with Whole(namespace, REGISTRY_AUTH_FILE=str(auth)) as whole:
            whole.environments(ONE, registry=f"http://{registry.address}/tests")
            said = reason(whole)
    finally:
        registry.stop()
    assert "ErrImagePull" in said
    assert "401 Unauthorized" in said or "authorization" in said
