"""Attacks on an instance of a whole machine, and what becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from stelae.controller.client import Client
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local import record
from stelae.platforms.local.place import place_of
from stelae.system.installation import Installation
from stelae.system.mount import mount
from tests.real.drift_ground import group_of, inside


class Prey(Protocol):
    """A whole Stelae, and the environment in which instances are attacked."""

    environment: EnvironmentId

    @property
    def installation(self) -> Installation: ...
    @property
    def client(self) -> Client: ...
    def until(self, what: str, condition: Callable[[], object], /) -> None: ...


def kill_monitor(machine: Prey, name: str) -> None:
    """End the conmon of an instance: it runs on, and nobody watches it."""
    found = record.load(place_of(machine.installation, machine.environment, InstanceId(name)))
    assert found is not None
    assert found.conmon is not None
    os.kill(found.conmon.pid, signal.SIGKILL)


def running(machine: Prey) -> list[str]:
    answer: dict[str, Any] = machine.client.get("/v1/state", at=2**52, environment=machine.environment)
    return [item["id"] for item in answer["environments"][0]["instances"] if item["process"] == "web"]


def happened(machine: Prey, kind: str) -> list[dict[str, Any]]:
    events = machine.client.get("/v1/history", environment=machine.environment, limit=1000, everything=True)["events"]
    return [item for item in events if item["kind"] == kind]


def enter(machine: Prey, name: str) -> None:
    """Run a shell of the image in the instance, from outside."""
    words = f"nsenter -t {pid_of(machine, name)} -m -p -n /bin/sh -c 'sleep 60' > /dev/null 2>&1 &"
    subprocess.run(words, shell=True, check=True)


def add_a_route(machine: Prey, name: str) -> None:
    words = ["nsenter", "-t", str(pid_of(machine, name)), "-n", "ip", "route", "add", "198.51.100.0/24", "dev", "lo"]
    subprocess.run(words, check=True)


def edit_hosts(machine: Prey, name: str) -> None:
    hosts = place_of(machine.installation, machine.environment, InstanceId(name)).folder / "hosts"
    hosts.write_text(hosts.read_text() + "198.51.100.7 example.com\n")


def raise_a_limit(machine: Prey, name: str) -> None:
    (group_of(pid_of(machine, name), "pids") / "pids.max").write_text("max")


def mount_something(machine: Prey, name: str) -> None:
    inside(pid_of(machine, name), lambda: mount("tmpfs", Path("/mnt"), "tmpfs", 0))


def pid_of(machine: Prey, name: str) -> int:
    found = record.load(place_of(machine.installation, machine.environment, InstanceId(name)))
    assert found is not None
    assert found.process is not None
    return found.process.pid


ATTACKS: dict[str, tuple[str, Callable[[Prey, str], None]]] = {
    "its monitor is killed": ("monitor", kill_monitor),
    "a shell is entered": ("process", enter),
    "a route is added": ("network", add_a_route),
    "its hosts are edited": ("mount", edit_hosts),
    "a limit is raised": ("settings", raise_a_limit),
    "something is mounted": ("mount", mount_something),
}
"""What is done, as what kind of drift it is found, and how it is done."""


def attacked(machine: Prey, victim: str, attack: str) -> tuple[float, float]:
    """Do *attack*, wait until it is found and the victim replaced, and return after how many seconds each was."""
    kind, act = ATTACKS[attack]
    began = time.monotonic()
    act(machine, victim)
    said = f"{victim} drifted ({kind}): "
    machine.until(attack, lambda: any(said in item["text"] for item in happened(machine, "drift.found")))
    found = time.monotonic() - began
    machine.until("it is replaced", lambda: victim not in running(machine))
    return found, time.monotonic() - began
