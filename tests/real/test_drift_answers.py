"""What drifted is found and replaced, on real parts, under load: nothing is lost and nothing else is touched."""

from __future__ import annotations

import time

import pytest

from stelae.testing.load import Load
from tests.real.attacks import attacked, happened, kill_monitor, running
from tests.real.machine import Machine
from tests.real.test_main_job import HOST, configure

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def test_an_instance_that_nobody_watches_is_replaced_and_no_request_fails(machine: Machine) -> None:
    configure(machine, "rolling", web=4)
    machine.version("1")
    machine.cli("deploy", "testing")
    machine.at_rest()
    before = running(machine)
    assert machine.cli("verify", "testing").returncode == 0
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60) as load:
        time.sleep(1)
        attacked(machine, before[0], "its monitor is killed")
        machine.at_rest()
        result = load.stop()
    assert not result.failures, result.failures[:5]
    assert set(before[1:]) <= set(running(machine)), "another one was replaced"
    (event,) = happened(machine, "drift.found")
    assert event["text"].startswith(f"{before[0]} drifted (monitor): ")
    assert machine.differences_soon() == []


def test_what_somebody_did_from_outside_is_replaced_and_no_request_fails(machine: Machine) -> None:
    """Two kinds; ``bench/drift_answers.py`` has all of them, with times."""
    configure(machine, "rolling", web=2, more='drift_storm = "100%"\n')
    machine.version("0")
    machine.cli("deploy", "testing")
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60) as load:
        for number, attack in enumerate(("a shell is entered", "a limit is raised"), 1):
            machine.version(str(number))
            machine.cli("deploy", "testing")
            machine.until("the old ones have gone", lambda: len(running(machine)) == 2)
            victim, other = running(machine)
            attacked(machine, victim, attack)
            machine.at_rest()
            assert other in running(machine), f"{attack}: another one was replaced"
        result = load.stop()
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
