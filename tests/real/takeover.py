"""A controller that is stopped in the middle of a deployment, and another one that runs when it wakes up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from stelae.testing.load import Load
from tests.real.crash import HOST, RATE, ended, make, next_image, request, whole_again
from tests.real.machine import Machine

MACHINE = "another controller has taken over this machine"
RECORD = "another controller has taken over the record"
UNDER_WAY = "an act of an earlier controller, process {}, is under way and does not end"


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stopped_at(machine: Machine, image: str, point: str) -> subprocess.Popen[bytes]:
    """Ask for a deployment of *image*, and return the controller when it has stopped at *point* of it."""
    machine.stop()
    controller = machine.start(STELAE_PAUSE_AT=point).controller
    assert controller is not None
    asking = machine.background("deploy", "testing", "--image", image, "--detach", "--json")
    deadline = time.monotonic() + 60
    while not is_stopped(controller.pid):
        assert time.monotonic() < deadline, f"it never came to {point}"
        time.sleep(0.02)
    asking.kill()
    asking.communicate()
    return controller


def lose_the_lock(machine: Machine) -> None:
    """What a person does who believes that files are all that is in the way."""
    machine.installation.ledger.with_suffix(".lock").unlink()
    machine.installation.socket.unlink()


def replaced(machine: Machine, first: subprocess.Popen[bytes]) -> bool:
    """Start another controller where *first* is stopped and has lost its lock; False when that was stopped
    inside an act: then nobody else begins, because nothing but its end tells that the act does not go on."""
    other = machine.spawn()
    with suppress(AssertionError):  # it ended
        machine.answers()
        return True
    assert (other.wait(30), is_stopped(first.pid)) == (4, True)
    assert UNDER_WAY.format(first.pid) in machine.log.read_text()
    first.kill()
    first.wait(30)
    machine.held.discard(first.pid)
    machine.start()
    return False


def wake_up_replaced(point: str) -> bool:
    """The stopped controller loses its lock, another ends the deployment; the first wakes up and can do nothing.

    False when there was another act under way at *point*, so that the first had to be ended.
    """
    with Machine() as machine:
        make(machine.start(), "blue-green")
        image = next_image(machine)
        with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=RATE) as load:
            first = stopped_at(machine, image, point)
            machine.held.add(first.pid)
            lose_the_lock(machine)
            awake = replaced(machine, first)
            again = machine.client.post("/v1/deployments", request(image, supersede=True))["deployment"]
            ended(machine, again)
            whole_again(machine, image)
            before = _told(machine)
            if awake:
                os.kill(first.pid, signal.SIGCONT)
                assert first.wait(30) == 4, "a clear end: something else holds it"
                assert RECORD in machine.log.read_text()
            machine.held.clear()
            assert _told(machine) == before, "it recorded something"
            whole_again(machine, image)
        assert not load.stop().failures
        if awake and point.startswith("action.") and ".before" in point:
            assert MACHINE in machine.log.read_text(), "nothing kept it from acting but the record"
        machine.cli("status")
        machine.client.post("/v1/verify-ledger")
        return awake


def _told(machine: Machine) -> tuple[Any, Any]:
    ping = machine.client.get("/v1/ping")
    return ping["size"], ping["root"]


def take_over(point: str) -> None:
    """While one is stopped no other starts, unless it is told to take over; then the first one is ended."""
    with Machine() as machine:
        make(machine.start(), "rolling")
        image = next_image(machine)
        with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=RATE) as load:
            first = stopped_at(machine, image, point)
            assert machine.spawn().wait(30) == 4
            assert f"the record is in use by process {first.pid}" in machine.log.read_text()
            assert is_stopped(first.pid)
            machine.start("--take-over")
            assert first.wait(30) == -signal.SIGKILL
            deployment = machine.client.post("/v1/deployments", request(image, supersede=True))["deployment"]
            ended(machine, deployment)
            whole_again(machine, image)
        assert not load.stop().failures
