"""Fifty clients that deploy at once: one serial history, and each is told clearly what came of its request."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stelae.controller.client import Client
from stelae.domain.errors import StelaeError
from tests.real import tiny
from tests.real.crash import request
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

CLIENTS = 50
BY_COMMAND_LINE = 5
SUPERSEDING = 5


def ask(machine: Machine, image: str, together: threading.Barrier, number: int) -> tuple[int, str]:
    """Deploy as client *number*; return its exit code, and the deployment that it was told of or the problem."""
    supersede = number % (CLIENTS // SUPERSEDING) == 0
    together.wait(60)
    if number < BY_COMMAND_LINE:
        words = (
            "deploy",
            "testing",
            "--image",
            image,
            "--detach",
            *(("--supersede",) if supersede else ()),
            "--json",
        )
        done = machine.cli(*words, check=False)
        return done.returncode, done.stdout + done.stderr
    body = request(image, environment="tiny/testing", supersede=supersede)
    try:
        return 0, Client(machine.installation.socket).post("/v1/deployments", body)["deployment"]
    except StelaeError as error:
        return error.exit_code, str(error)


def test_fifty_clients_at_once_give_one_serial_history() -> None:
    with Machine(seed=False) as machine:
        machine.start()
        machine.app.mkdir()
        tiny.make(machine)
        machine.cli("deploy", "testing")
        tiny.version(machine, "2")
        images = [machine.status()["image"], machine.json("build")["image"]]
        together = threading.Barrier(CLIENTS)
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(lambda n: ask(machine, images[n % 2], together, n), range(CLIENTS)))
        codes = Counter(code for code, _ in answers)
        print(dict(codes))
        assert set(codes) == {0, 4}, answers
        assert codes[0] >= SUPERSEDING
        for code, text in answers:
            assert code == 0 or any(word in text for word in ("busy", "came first")), text
        machine.until("all have ended", lambda: machine.status()["state"] == "steady", 60)
        history(machine, answers, images)
        found = machine.differences_soon(20)
        assert not found, found
        machine.client.post("/v1/verify-ledger")


def history(machine: Machine, answers: list[tuple[int, str]], images: list[str]) -> None:
    """Each that was accepted is recorded once and ended before the next began; nobody else's is recorded."""
    events: list[dict[str, Any]] = machine.json("history", "-n", "5000", "--all")["events"]
    under_way, begun = "", []
    for event in sorted(events, key=lambda event: int(event["index"])):
        name = event["text"].split(":")[0].split(" ")[0]
        if event["kind"] == "deployment.requested":
            assert under_way == "", f"{name} began while {under_way} was under way"
            begun.append(name)
            under_way = name
        elif event["kind"] == "rollout.ended":
            assert under_way == name
            under_way = ""
    assert begun == [f"d-{number + 1}" for number in range(len(begun))]
    accepted = sum(1 for code, _ in answers if code == 0)
    assert len(begun) == accepted + 1, "one more was there before"
    told = {text for code, text in answers[BY_COMMAND_LINE:] if code == 0}
    assert told <= set(begun)
    outcomes = [machine.client.get(f"/v1/deployments/{name}")["outcome"] for name in begun]
    assert set(outcomes) <= {"succeeded", "superseded"}, outcomes
    assert outcomes[-1] == "succeeded"
    refused = sum(1 for event in events if event["kind"] == "request.refused")
    assert refused == len(answers) - accepted, "each refusal is recorded"
    assert machine.status()["image"] in images


def test_a_reply_that_is_lost_and_asked_for_again_is_the_same_deployment() -> None:
    with Machine(seed=False) as machine:
        machine.start()
        machine.app.mkdir()
        tiny.make(machine)
        image = machine.json("build")["image"]
        body = request(image, environment="tiny/testing")
        data = json.dumps(body).encode()
        before = machine.client.get("/v1/ping")["size"]
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(machine.installation.socket))
            head = f"POST /v1/deployments HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
            line.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
            machine.until("it is recorded", lambda: machine.client.get("/v1/ping")["size"] > before)
        answers = {machine.client.post("/v1/deployments", body)["deployment"] for _ in range(3)}
        assert answers == {"d-1"}
        machine.until("it ends", lambda: machine.client.get("/v1/deployments/d-1")["outcome"] == "succeeded")
        assert machine.client.post("/v1/deployments", body)["deployment"] == "d-1"
        kinds = [event["kind"] for event in machine.json("history", "-n", "500", "--all")["events"]]
        assert kinds.count("deployment.requested") == 1
