"""A canary that fails one of fifty requests, on real instances behind the real proxy, at 200 requests a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stelae.domain.units import SECOND
from stelae.testing.load import Load
from tests.real.fickle import SPEC, SWIFT
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

HOST = "shop.fickle.localhost"
RATE, WITHIN = 200, 20 * SECOND

ENVIRONMENT = """
[env.shop]
hosts = ["{host}"]
processes = {{ web = 2 }}
settings = {{ FAILS_EVERY = "{every}", ROUND = "{round}" }}
[env.shop.strategy]
kind = "canary"
steps = [25]
soak = "{soak}"
min_healthy = "0s"
abort_on = {{ error_rate = 0.1 }}
"""

_ANSWER = '    lines = (\n        "HTTP/1.1 200 OK",'
_FAILS = """    global asked
    asked += 1
    fails = body != "ok\\\\n" and asked % int(os.environ["FAILS_EVERY"]) == 0
    lines = (
        "HTTP/1.1 500 No" if fails else "HTTP/1.1 200 OK","""


def settle(machine: Machine, *, every: int, number: int, soak: str) -> None:
    """Have instances that are launched from now on fail one request of *every*."""
    text = SPEC.format(command='["python3", "-I", "-S", "swift"]', start="10s")
    machine.write("stelae.toml", text + ENVIRONMENT.format(host=HOST, every=every, round=number, soak=soak))
    machine.commit(f"round {number}")
    machine.cli("env", "apply")


def make(machine: Machine) -> str:
    """Make the app and deploy a release that fails one request of a thousand; return its image."""
    machine.use(SWIFT)
    path = machine.app / "swift" / "__main__.py"
    text = path.read_text()
    assert _ANSWER in text
    text = text.replace(_ANSWER, _FAILS.replace("\\\\n", "\\n")).replace("\nVERSION", "\nasked = 0\nVERSION", 1)
    machine.write("swift/__main__.py", text)
    settle(machine, every=1000, number=1, soak="0s")
    image = str(machine.json("build")["image"])
    machine.cli("deploy", "shop", "--image", image)
    return image


def events(machine: Machine) -> dict[str, dict[str, Any]]:
    """The last event of each kind."""
    found = machine.client.get("/v1/history", environment="fickle/shop", limit=60, everything=True)["events"]
    return {item["kind"]: item for item in sorted(found, key=lambda item: item["index"])}


@pytest.fixture
def machine(_seed: None) -> Iterator[Machine]:
    """A machine with its controller running and nothing else."""
    with Machine() as made:
        yield made.start()


def test_a_bad_canary_goes_back_within_seconds_and_a_good_one_succeeds(machine: Machine) -> None:
    image = make(machine)
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=RATE) as load:
        settle(machine, every=1000, number=2, soak="4s")
        good = machine.cli("deploy", "shop", "--image", image, check=False)
        assert good.returncode == 0, good.stderr
        advanced = events(machine)["rollout.advanced"]["text"]
        assert "errors 0" in advanced
        assert "requests" in advanced
        before = machine.status("shop")["release"]

        settle(machine, every=50, number=3, soak="60s")
        bad = machine.background("deploy", "shop", "--image", image)
        machine.until(
            "it is held", lambda: machine.status("shop")["rollout"] and "s left" in machine.status("shop")["detail"]
        )
        detail = machine.status("shop")["detail"]
        output, _ = bad.communicate(timeout=120)
        result = load.stop()
    assert bad.returncode == 1
    assert "reverted: errors are worse than the old release's: errors " in output, output
    assert "(old 0" in output
    assert ", errors " in detail, detail
    told = events(machine)
    took = told["rollout.reverting"]["at"] - told["rollout.held"]["at"]
    print(f"found after {took / SECOND:.1f} s, gone back after "
          f"{(told['rollout.ended']['at'] - told['rollout.held']['at']) / SECOND:.1f} s")  # fmt: skip
    assert took <= WITHIN
    assert machine.status("shop")["release"] == before
    failed = [one for one in result.failures if "500" not in one.detail]
    assert not failed, failed[:3]
