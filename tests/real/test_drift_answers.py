"""What drifted is found and replaced, on real parts, under load: nothing is lost and nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local import record
from stelae.platforms.local.place import place_of
from stelae.system.mount import mount
from stelae.testing.load import Load
from tests.real.drift_ground import group_of, inside
from tests.real.machine import Machine
from tests.real.test_main_job import HOST, configure

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ENVIRONMENT = EnvironmentId("guestbook/testing")


def kill_monitor(machine: Machine, name: str) -> None:
    """End the conmon of an instance: it runs on, and nobody watches it."""
    found = record.load(place_of(machine.installation, ENVIRONMENT, InstanceId(name)))
    assert found is not None
    assert found.conmon is not None
    os.kill(found.conmon.pid, signal.SIGKILL)


def running(machine: Machine) -> list[str]:
    answer: dict[str, Any] = machine.client.get("/v1/state", at=2**52, environment=ENVIRONMENT)
    return [item["id"] for item in answer["environments"][0]["instances"] if item["process"] == "web"]


def happened(machine: Machine, kind: str) -> list[dict[str, Any]]:
    events = machine.client.get("/v1/history", environment=ENVIRONMENT, limit=1000, everything=True)["events"]
    return [item for item in events if item["kind"] == kind]


def test_an_instance_that_nobody_watches_is_replaced_and_no_request_fails(machine: Machine) -> None:
    configure(machine, "rolling", web=4)
    machine.version("1")
    machine.cli("deploy", "testing")
    machine.at_rest()
    before = running(machine)
    assert machine.cli("verify", "testing").returncode == 0
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60) as load:
        time.sleep(1)
        began = time.monotonic()
        kill_monitor(machine, before[0])
        machine.until("it is found", lambda: happened(machine, "drift.found"))
        found = time.monotonic() - began
        machine.until("it is replaced", lambda: before[0] not in running(machine))
        took = time.monotonic() - began
        machine.at_rest()
        result = load.stop()
    print(f"found after {found:.1f} s, replaced after {took:.1f} s; {result}")
    assert found < 5
    assert took < 10
    assert not result.failures, result.failures[:5]
    assert set(before[1:]) <= set(running(machine)), "another one was replaced"
    (event,) = happened(machine, "drift.found")
    assert event["text"].startswith(f"{before[0]} drifted (monitor): ")
    assert machine.differences_soon() == []


def enter(machine: Machine, name: str) -> None:
    """Run a shell of the image in the instance, from outside."""
    words = f"nsenter -t {pid_of(machine, name)} -m -p -n /bin/sh -c 'sleep 60' > /dev/null 2>&1 &"
    subprocess.run(words, shell=True, check=True)


def add_a_route(machine: Machine, name: str) -> None:
    words = ["nsenter", "-t", str(pid_of(machine, name)), "-n", "ip", "route", "add", "198.51.100.0/24", "dev", "lo"]
    subprocess.run(words, check=True)


def edit_hosts(machine: Machine, name: str) -> None:
    hosts = place_of(machine.installation, ENVIRONMENT, InstanceId(name)).folder / "hosts"
    hosts.write_text(hosts.read_text() + "198.51.100.7 example.com\n")


def raise_a_limit(machine: Machine, name: str) -> None:
    (group_of(pid_of(machine, name), "pids") / "pids.max").write_text("max")


def mount_something(machine: Machine, name: str) -> None:
    inside(pid_of(machine, name), lambda: mount("tmpfs", Path("/mnt"), "tmpfs", 0))


def pid_of(machine: Machine, name: str) -> int:
    found = record.load(place_of(machine.installation, ENVIRONMENT, InstanceId(name)))
    assert found is not None
    assert found.process is not None
    return found.process.pid


ATTACKS: dict[str, Callable[[Machine, str], None]] = {
    "process": enter, "network": add_a_route, "mount": edit_hosts, "settings": raise_a_limit,
    "mount again": mount_something,
}  # fmt: skip


def test_each_kind_is_found_and_replaced_in_time_and_no_request_fails(machine: Machine) -> None:
    """One after the other, each of another release, since what drifts again and again is replaced more slowly."""
    configure(machine, "rolling", web=len(ATTACKS), more='drift_storm = "100%"\n')
    took: dict[str, tuple[float, float]] = {}
    machine.version("0")
    machine.cli("deploy", "testing")
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60) as load:
        for number, (kind, attack) in enumerate(ATTACKS.items(), 1):
            machine.version(str(number))
            machine.cli("deploy", "testing")
            machine.until("the old ones have gone", lambda: len(running(machine)) == len(ATTACKS))
            victim, *others = running(machine)
            began = time.monotonic()
            attack(machine, victim)
            said = f"{victim} drifted ({kind.split()[0]}): "
            machine.until(
                kind, lambda said=said: any(said in item["text"] for item in happened(machine, "drift.found"))
            )
            found = time.monotonic() - began
            machine.until("it is replaced", lambda victim=victim: victim not in running(machine))
            took[kind] = (found, time.monotonic() - began)
            machine.at_rest()
            assert set(others) <= set(running(machine)), f"{kind}: another one was replaced"
        result = load.stop()
    print(
        "; ".join(
            f"{kind} found after {found:.1f} s, replaced after {late:.1f} s" for kind, (found, late) in took.items()
        )
    )
    assert max(found for found, _ in took.values()) < 5, took
    assert max(late for _, late in took.values()) < 10, took
    assert not result.failures, result.failures[:5]
    assert machine.differences_soon() == []


def test_a_storm_waits_for_a_person(machine: Machine) -> None:
    configure(machine, "rolling", web=4, more='drift_storm = "25%"\n')
    machine.version("1")
    machine.cli("deploy", "testing")
    machine.at_rest()
    before = running(machine)
    for name in before[:2]:
        kill_monitor(machine, name)
    done = machine.cli("verify", "testing", check=False)
    assert done.returncode == 1
    assert "a drift storm" in done.stdout
    assert set(running(machine)) >= set(before), "something was replaced in a storm"
    assert machine.status()["state"] == "drifted"
    assert "drift storm: 2 instances drifted" in machine.status()["detail"]
    answer = machine.cli("replace", "testing", "--drifted", "--reason", "somebody killed them")
    assert "the drift storm is over" in answer.stdout
    machine.until("both are replaced", lambda: not set(before[:2]) & set(running(machine)))
    machine.at_rest()
    assert set(before[2:]) <= set(running(machine))
    assert machine.cli("verify", "testing").returncode == 0
    assert machine.differences_soon() == []
