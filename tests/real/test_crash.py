"""Crashes on real parts: the controller, the proxy, and the whole machine."""

from __future__ import annotations

import os
import signal
import time

import pytest

from stelae.platforms.local.proxy.launch import layout_of, supervisor_status
from stelae.testing.load import Collector, Load
from tests.real.machine import Machine
from tests.real.test_main_job import HOST, configure

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def _deploy_and_kill(machine: Machine, after: float) -> str:
    """Ask for a deployment of HEAD, kill the controller *after* seconds of it, start it again; return its id."""
    image = machine.json("build")["image"]
    started = machine.json("deploy", "testing", "--image", image, "--detach")
    time.sleep(after)
    machine.kill()
    machine.start()
    return str(started["deployment"])


@pytest.mark.parametrize("kind", ["rolling", "blue-green", "recreate"])
def test_a_killed_controller_resumes_and_ends_the_rollout(machine: Machine, kind: str) -> None:
    configure(machine, kind)
    machine.cli("deploy", "testing")
    load = Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=30)
    if kind != "recreate":
        load.start()
    for number, after in enumerate((0.02, 0.15, 0.4, 1.0, 1.6)):
        machine.version(f"{number + 2}")
        name = _deploy_and_kill(machine, after)
        machine.until("the rollout ends", lambda n=name: machine.client.get(f"/v1/deployments/{n}")["outcome"] != "")
        assert machine.client.get(f"/v1/deployments/{name}")["outcome"] == "succeeded"
        machine.at_rest()
    if kind != "recreate":
        result = load.stop()
        assert not result.failures, result.failures[:5]


def kinds(machine: Machine, since: int) -> set[str]:
    """What happened from the event with the index *since* on."""
    events = machine.json("history", "-n", "200", "--all")["events"]
    return {item["kind"] for item in events if item["index"] >= since}


def test_a_controller_that_is_away_drops_nothing(machine: Machine) -> None:
    with Collector("0.0.0.0") as collector:
        configure(machine, "rolling", collector=collector.port)
        machine.cli("deploy", "testing")
        machine.until("that it is verified is signed", lambda: "image.verification-signed" in kinds(machine, 0))
        before = machine.client.get("/v1/ping")["size"]
        with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60) as load:
            for end in (machine.kill, machine.stop, machine.kill):
                end()
                time.sleep(0.5)
                machine.start()
                time.sleep(0.5)
        result = load.stop()
        assert not result.failures, result.failures[:5]
        assert not result.lost(collector.counts())
    told = {"controller.started", "environment.watched"}  # that it is here, and from when to when nobody looked
    assert {"controller.started"} <= kinds(machine, before) <= told, "adopting must not touch anything"
    assert machine.differences_soon() == []


def test_a_killed_proxy_refuses_nobody_and_is_back_within_a_second(machine: Machine) -> None:
    configure(machine, "rolling")
    machine.cli("deploy", "testing")
    load = Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60)
    load.start()
    time.sleep(1)
    status = supervisor_status(layout_of(machine.installation))
    assert status is not None
    killed = status.workers[-1].pid
    before = time.monotonic()
    os.kill(killed, signal.SIGKILL)

    def back() -> bool:
        now = supervisor_status(layout_of(machine.installation))
        return now is not None and any(worker.ready and worker.pid != killed for worker in now.workers)

    machine.until("the proxy is back", back, 5)
    assert time.monotonic() - before < 1.0
    time.sleep(1)
    result = load.stop()
    assert not any(failure.trouble == "refused" for failure in result.failures), result.failures[:5]
    assert len(result.failures) <= 10, "only requests in flight may be lost"
    assert machine.differences_soon() == []


def test_after_a_power_off_every_environment_serves_again(machine: Machine) -> None:
    configure(machine, "rolling", more="")
    text = (machine.app / "stelae.toml").read_text()
    other = text[text.index("[env.testing]") :].replace("testing", "staging")
    machine.write("stelae.toml", f"{text}\n{other}").commit("two environments")
    machine.cli("env", "apply")
    machine.cli("deploy", "testing")
    image = machine.status("testing")["image"]
    machine.cli("deploy", "staging", "--image", image)
    before = {name: machine.status(name)["release"] for name in ("testing", "staging")}
    machine.power_off()
    started = time.monotonic()
    machine.start()
    machine.until(
        "all environments serve", lambda: all(machine.status(n)["state"] == "steady" for n in before), seconds=30
    )
    assert time.monotonic() - started < 30
    assert {name: machine.status(name)["release"] for name in before} == before
    assert machine.differences_soon() == []
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=20) as load:
        time.sleep(1)
    assert not load.stop().failures


def test_a_power_off_in_the_middle_of_a_rollout_ends_it(machine: Machine) -> None:
    configure(machine, "blue-green")
    machine.cli("deploy", "testing")
    machine.version("2")
    image = machine.json("build")["image"]
    name = machine.json("deploy", "testing", "--image", image, "--detach")["deployment"]
    time.sleep(0.3)
    machine.power_off()
    machine.start()
    machine.until("the rollout ends", lambda: machine.client.get(f"/v1/deployments/{name}")["outcome"] != "")
    machine.until("it serves", lambda: machine.status()["state"] == "steady")
    assert machine.differences_soon() == []


def test_projections_may_be_deleted(machine: Machine) -> None:
    configure(machine, "rolling")
    machine.cli("deploy", "testing")
    machine.stop()
    folder = machine.installation.cache / "projections"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept
    for path in folder.iterdir():
        path.unlink()
    machine.start()
    state = machine.client.get("/v1/state", at=2**52, environment="")
    machine.stop()
    machine.start()
    again = machine.client.get("/v1/state", at=2**52, environment="")
    assert state["environments"] == again["environments"]


def test_an_altered_ledger_is_not_acted_on(machine: Machine) -> None:
    import sqlite3

    configure(machine, "rolling")
    machine.stop()
    with sqlite3.connect(machine.installation.ledger) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE type = 'trigger'")
    with sqlite3.connect(machine.installation.ledger) as db:
        db.execute("UPDATE event SET leaf = ? WHERE idx = 1", (b"{}",))
    with pytest.raises(AssertionError, match="the controller ended"):
        machine.start()
    assert "Traceback" not in machine.log.read_text()
