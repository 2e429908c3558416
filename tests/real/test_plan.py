"""A plan on real parts: look, be overtaken, look again, deploy; and what was shown is what was done."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

FIXED = {"min": None, "max": None}
"""Of a process whose number does not follow its load."""


def test_plan_be_overtaken_plan_again_deploy(machine: Machine) -> None:
    tiny.make(machine, kind="rolling")
    machine.cli("deploy", "testing")
    first = machine.status()
    tiny.version(machine, "2")
    assert "build it first: stelae build" in refused(machine, 2, "plan", "testing")
    image = machine.json("build")["image"]
    machine.client.get("/v1/keys")  # waits until it is signed
    size = events(machine)

    plan = machine.json("plan", "testing")
    assert (plan["from"]["release"], plan["to"]["image"]) == (first["release"], image)
    assert (plan["from"]["subject"], plan["to"]["subject"]) == ("version 1", "version 2")
    assert (plan["processes"], plan["refusal"]) == ({"web": {"now": 2, "then": 2, **FIXED}}, None)
    shown = machine.cli("plan", "testing").stdout
    assert f"do it: stelae deploy testing --image {image} --plan {plan['index']}" in shown
    assert events(machine) == size, "nothing was recorded"
    assert machine.status()["release"] == first["release"]

    machine.cli("scale", "testing", "web=3")
    machine.at_rest()
    said = refused(machine, 4, *words(plan))
    assert f"plan {plan['index']} of tiny/testing is stale: since then root: web scaled to 3" in said
    assert "look again: stelae plan testing" in said
    assert machine.status()["release"] == first["release"]

    again = machine.json("plan", "testing")
    assert again["processes"] == {"web": {"now": 3, "then": 3, **FIXED}}
    machine.cli(*words(again))
    after = machine.status()
    assert (after["release"], after["image"]) == (again["to"]["release"], image)
    assert after["processes"] == {"web": {"ready": 3, "wanted": 3, **FIXED}}
    assert steps(machine) == len(again["steps"])
    assert "version 2" in tiny.ask(machine)

    back = machine.json("plan", "testing", "--rollback")
    assert (back["kind"], back["to"]["release"]) == ("rollback", first["release"])
    machine.cli(*words(back))
    assert machine.status()["release"] == first["release"]
    assert machine.json("plan", "testing", "--release", first["release"])["nothing"]
    machine.at_rest()
    assert machine.differences_soon() == []


def refused(machine: Machine, code: int, *arguments: object) -> str:
    """Run a command that must end with *code*, and return what it said."""
    done = machine.cli(*arguments, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    return done.stderr


def words(plan: Any) -> list[str]:
    """The command that the plan printed."""
    return shlex.split(plan["command"])[1:]


def events(machine: Machine) -> int:
    return int(machine.client.get("/v1/ping")["size"])


def steps(machine: Machine) -> int:
    """How many steps the newest deployment took."""
    found = machine.client.get("/v1/history", everything=True, limit=10_000)["events"]
    newest = [item["text"].partition(":")[0] for item in found if item["kind"] == "deployment.requested"][-1]
    return 1 + sum(
        item["kind"] == "rollout.advanced" and item["text"].startswith(f"{newest}:") for item in found
    )  # fmt: skip
