"""Releases that are no good, on real parts: the old release serves on, and the reason is said first.

Three environments, one for each strategy, go through each case side by side.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict
from stelae.platforms.local import record
from stelae.platforms.local.place import place_of
from stelae.testing.load import Load, LoadResult
from tests.real.fickle import FRESH, KINDS, behave, host, make
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

T = TypeVar("T")
Done = subprocess.CompletedProcess[str]

BAD = {
    "never ready": "was not ready within 4 s: nothing listens on port 8000",
    "exits at once": "exited with status 3 before it was ready",
    "exits after it was ready": "exited with status 7 after it was ready",
    "hangs": "was not ready within 4 s: did not answer within 0.5 s",
    "eats memory": "ran out of memory before it was ready",
}
_versions = (f"{number}" for number in itertools.count(2))


@pytest.fixture(scope="module")
def started(_seed: None) -> Iterator[Machine]:
    with Machine() as machine:
        make(machine.start())
        image = machine.json("build")["image"]
        each(lambda kind: machine.cli("deploy", kind, "--image", image))
        yield machine


@pytest.fixture
def shop(started: Machine) -> Iterator[Machine]:
    """The machine with a good release in each environment; after the test nothing is there that is not recorded."""
    yield started
    assert started.differences_soon() == []
    assert {started.status(kind)["state"] for kind in KINDS} == {"steady"}
    assert "Traceback" not in started.log.read_text()


def each(act: Callable[[str], T]) -> dict[str, T]:
    """Do the same in all three environments at the same time."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        return dict(zip(KINDS, pool.map(act, KINDS), strict=True))


def built(shop: Machine, behaviour: str, **options: str) -> tuple[str, str]:
    """Build a version that behaves like that; return the version and the image."""
    version = next(_versions)
    behave(shop, behaviour, version, **options)
    return version, shop.json("build")["image"]


def under_load(shop: Machine, act: Callable[[], T]) -> tuple[T, dict[str, LoadResult]]:
    """Do something while each environment gets 30 requests a second."""
    with ExitStack() as stack:
        port = shop.installation.http_port
        loads = {k: stack.enter_context(Load("127.0.0.1", port, host=host(k), rate=30)) for k in KINDS}
        done = act()
        return done, {kind: load.stop() for kind, load in loads.items()}


def begun(shop: Machine, kind: str, image: str) -> subprocess.Popen[str]:
    """Begin a deployment and wait until it holds the environment."""
    running = shop.background("deploy", kind, "--image", image)
    shop.until("the rollout is under way", lambda: shop.status(kind)["rollout"])
    return running


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = running.communicate(timeout=60)
    return running.returncode, output


def instances(shop: Machine, kind: str) -> set[str]:
    answer: dict[str, Any] = shop.client.get("/v1/state", at=2**52, environment=f"fickle/{kind}")
    return {item["id"] for item in answer["environments"][0]["instances"]}


def nothing_else_is_there(shop: Machine) -> None:
    """Wait until what a rollout left behind has ended and is taken away, which happens after its outcome."""
    shop.until("two instances each", lambda: all(len(instances(shop, kind)) == 2 for kind in KINDS))


def check_reverted(shop: Machine, kind: str, done: Done, before: str, reason: str, said: list[str]) -> None:
    """The reason is the first line, then come the instance's last words, then what serves."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("reverted: instance web-")
    assert reason in lines[0]
    assert lines[1:] == [
        *(f"    | {line}" for line in said),
        f"  {before[:8]} serves; 2 of 2 instances ready",
        lines[-1],
    ]
    assert lines[-1].startswith(f"  try: stelae logs {kind} --release r-")
    logs = shop.cli(*lines[-1].partition("stelae ")[2].split()).stdout.splitlines()
    failed = lines[0].split()[2]
    assert [line for line in logs if line.startswith(failed)] == [f"{failed} | {line}" for line in said]
    assert reason in shop.cli("history", kind).stdout
    assert shop.status(kind)["release"] == before


@pytest.mark.parametrize("behaviour", BAD)
def test_a_bad_release_is_reverted_while_the_old_one_serves(shop: Machine, behaviour: str) -> None:
    before = {kind: shop.status(kind)["release"] for kind in KINDS}
    nothing_else_is_there(shop)
    there = {kind: instances(shop, kind) for kind in KINDS}
    version, image = built(shop, behaviour)
    done, loads = under_load(shop, lambda: each(lambda kind: shop.cli("deploy", kind, "--image", image, check=False)))
    said = [f"line {number} of version {version}" for number in (1, 2)]
    for kind in KINDS:
        check_reverted(shop, kind, done[kind], before[kind], BAD[behaviour], said)
    # A rolling candidate has a share of the traffic when it exits: a POST that it had taken may be lost, no more.
    most = 1 if behaviour == "exits after it was ready" else 0
    assert len(loads["rolling"].failures) <= most, loads["rolling"]
    assert not loads["blue-green"].failures, loads["blue-green"]
    nothing_else_is_there(shop)
    assert {kind: instances(shop, kind) for kind in KINDS[:2]} == {kind: there[kind] for kind in KINDS[:2]}


def test_a_command_that_is_not_there_is_reverted(shop: Machine) -> None:
    before = {kind: shop.status(kind)["release"] for kind in KINDS}
    _, image = built(shop, "fine", command='["/no/such/program"]')
    done, loads = under_load(shop, lambda: each(lambda kind: shop.cli("deploy", kind, "--image", image, check=False)))
    for kind in KINDS:
        check_reverted(shop, kind, done[kind], before[kind], "could not be launched: ", [])
        assert "/no/such/program" in done[kind].stderr.splitlines()[0]
        assert "level=error" not in done[kind].stderr
    assert not loads["rolling"].failures, loads["rolling"]
    assert not loads["blue-green"].failures, loads["blue-green"]


def test_a_first_release_that_is_bad_leaves_nothing(shop: Machine) -> None:
    _, image = built(shop, "exits at once")
    done = shop.cli("deploy", FRESH, "--image", image, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("failed: instance web-")
    assert "  nothing serves in this environment\n" in done.stderr
    shop.until("all of it has ended", lambda: not instances(shop, FRESH))
    assert shop.cli("rollback", FRESH, check=False).returncode == 2


def test_an_abort_in_the_middle_goes_back(shop: Machine) -> None:
    before = {kind: shop.status(kind)["release"] for kind in KINDS}
    _, image = built(shop, "never ready", start="60s")

    def act(kind: str) -> tuple[int, str]:
        running = begun(shop, kind, image)
        aborted = shop.cli("abort", kind, "--reason", "changed my mind")
        assert "cancelled: aborted by root: changed my mind" in aborted.stdout
        return ended(running)

    outputs, loads = under_load(shop, lambda: each(act))
    for kind, (code, output) in outputs.items():
        assert code == 1
        assert "cancelled: aborted by root: changed my mind\n" in output
        assert shop.status(kind)["release"] == before[kind]
    assert not loads["rolling"].failures, loads["rolling"]
    assert not loads["blue-green"].failures, loads["blue-green"]
    again = shop.cli("abort", "rolling", check=False)
    assert again.returncode == 4
    assert "nothing to abort" in again.stderr


def test_a_newer_deployment_is_refused_or_supersedes(shop: Machine) -> None:
    _, slow = built(shop, "never ready", start="60s")
    version, good = built(shop, "fine")

    def act(kind: str) -> tuple[int, str]:
        running = begun(shop, kind, slow)
        holder = shop.status(kind)["rollout"]
        busy = shop.cli("deploy", kind, "--image", good, check=False)
        assert busy.returncode == 4
        name = f"deployment {holder['deployment']} ({holder['candidate'][:8]}, by root, {kind} step"
        assert busy.stderr.startswith(f"busy: {name}"), busy.stderr
        assert "--supersede" in busy.stderr
        shop.cli("deploy", kind, "--image", good, "--supersede")
        return ended(running)

    outputs, loads = under_load(shop, lambda: each(act))
    for kind, (code, output) in outputs.items():
        assert code == 1
        assert "superseded: replaced by d-" in output
        assert f"by root, {kind} step" in shop.cli("history", kind).stdout
        assert shop.status(kind)["image"] == good
        assert list(loads[kind].versions)[-1] == version
    assert not loads["rolling"].failures, loads["rolling"]
    assert not loads["blue-green"].failures, loads["blue-green"]


def test_a_rollback_gets_in_while_a_rollout_is_under_way(shop: Machine) -> None:
    before = {kind: shop.status(kind)["release"] for kind in KINDS}
    _, image = built(shop, "never ready", start="60s")

    def act(kind: str) -> tuple[int, str]:
        running = begun(shop, kind, image)
        shop.cli("rollback", kind)
        return ended(running)

    outputs, loads = under_load(shop, lambda: each(act))
    assert {code for code, _ in outputs.values()} == {1}
    assert {kind: shop.status(kind)["release"] for kind in KINDS} == before
    assert not loads["rolling"].failures, loads["rolling"]
    assert not loads["blue-green"].failures, loads["blue-green"]


def test_scaling_in_the_middle_of_a_rollout_is_part_of_it(shop: Machine) -> None:
    _, image = built(shop, "fine")

    def act(kind: str) -> tuple[int, str]:
        running = begun(shop, kind, image)
        shop.cli("scale", kind, "web=4")
        return ended(running)

    outputs, loads = under_load(shop, lambda: each(act))
    for kind, (code, output) in outputs.items():
        assert code == 0, output
        shop.until("four are ready", lambda: shop.ready(kind) == (4, 4))  # noqa: B023 - it is called before the loop goes on
        assert shop.status(kind)["image"] == image
    each(lambda kind: shop.cli("scale", kind, "web=2"))
    assert not loads["rolling"].failures, loads["rolling"]
    assert not loads["blue-green"].failures, loads["blue-green"]


def test_one_key_is_one_deployment(shop: Machine) -> None:
    _, image = built(shop, "fine")
    request = {"environment": "fickle/rolling", "image": image, "key": f"key-{image[-20:]}"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: shop.client.post("/v1/deployments", request), range(4)))
    assert len({answer["deployment"] for answer in answers}) == 1
    shop.client.follow("GET", f"/v1/deployments/{answers[0]['deployment']}/watch", None, lambda _: None)
    assert shop.client.post("/v1/deployments", request) == answers[0]
    with pytest.raises(Conflict, match="key"):
        shop.client.post("/v1/deployments", {**request, "environment": "fickle/recreate"})


def test_an_instance_that_somebody_kills_is_replaced(shop: Machine) -> None:
    def act(kind: str) -> str:
        victim = min(instances(shop, kind))
        place = place_of(shop.installation, EnvironmentId(f"fickle/{kind}"), InstanceId(victim))
        found = record.load(place)
        assert found is not None
        assert found.process is not None
        os.kill(found.process.pid, signal.SIGKILL)
        shop.until(
            "it is replaced",
            lambda: (
                victim not in instances(shop, kind)
                and shop.ready(kind) == (2, 2)
                and len(
                    shop.client.get("/v1/state", at=2**52, environment=f"fickle/{kind}")["environments"][0]["table"]
                )
                == 2
            ),
        )
        return victim

    victims, loads = under_load(shop, lambda: each(act))
    for kind, victim in victims.items():
        assert f"{victim} was ended by signal 9" in shop.cli("history", kind, "--limit", "200").stdout
        assert len(loads[kind].failures) <= 2, loads[kind]  # what it had taken when it was killed
    _, after = under_load(shop, lambda: shop.cli("status"))
    assert not any(load.failures for load in after.values())
