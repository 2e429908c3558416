"""Asking the past of a real controller: what ran, where, who, and whether somebody looked."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.real.machine import Machine
from tests.real.test_main_job import configure

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def test_the_past_is_told_and_nobody_looked_while_the_controller_was_away(machine: Machine) -> None:
    configure(machine, "rolling")
    first = machine.json("deploy", "testing")
    machine.version("2")
    second = machine.json("deploy", "testing")
    then = machine.json("state", "testing", "--at", second["deployment"])["environments"][0]
    assert then["release"] == first["release"]
    gone = machine.json("where", first["image"], "--ever")["instances"]
    assert gone
    assert all(life["removed_at"] or life["stopped_at"] for life in gone)
    running = machine.json("where", second["image"])["instances"]
    env = f"{then['app']}/testing"
    assert {life["environment"] for life in running} == {env}
    assert machine.json("show", gone[0]["instance"])["release"] == first["release"]
    assert machine.json("where", "libc6")["kind"] == "package"
    assert machine.json("where", f"libc6={packages(machine, second['image'])['libc6']}", "--ever")["releases"]
    differ = machine.json("diff", f"testing@{second['deployment']}", "testing")
    assert (differ["old"], differ["new"], differ["unknown"]) == (first["image"], second["image"], "")
    assert [one["deployment"] for one in differ["environments"]["deployments"]] == [second["deployment"]]
    person = machine.json("history", "--of", second["deployment"])["events"][0]["actor"]
    assert second["deployment"] in str(machine.json("show", person)["asked"])
    time.sleep(6)
    machine.stop()
    time.sleep(17)
    machine.start()
    machine.until("it is looked at again", lambda: observed(machine)["share"])
    gap = observed(machine)["gaps"][-1]
    assert 16e6 < gap["until"] - gap["since"] < 60e6
    assert 0 < observed(machine)["share"] < 10_000
    life = machine.json("where", second["image"])["instances"][0]
    assert 0 < life["observed"]["share"] < 10_000
    assert life["inspected"]["share"] > 0
    machine.stop()
    before = machine.installation.cache / "history"
    before.write_bytes(b"not what it was" + before.read_bytes()[15:])
    machine.start()
    again = machine.json("state", "testing", "--at", second["deployment"])["environments"][0]
    assert again["release"] == first["release"]
    assert again["instances"] == then["instances"]


def packages(machine: Machine, image: str) -> dict[str, str]:
    """The packages of *image*, with their versions."""
    return {item["name"]: item["version"] for item in machine.json("show", image)["proof"]["packages"]}


def observed(machine: Machine) -> dict[str, Any]:
    """What was observed of the environment up to now."""
    found: dict[str, Any] = machine.json("state", "testing")["environments"][0]["observed"]
    return found
