"""Testing on one machine and production on another: verified there, approved here, by real users of the machine."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.controller.client import Client, Json
from stelae.domain.errors import StelaeError
from tests.hooks import collector
from tests.real import tiny
from tests.real.machine import Machine
from tests.real.registries import running

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("docker-registry") is None, reason="needs root and docker-registry"
    ),
]

HOST, FRONT = "tiny.localhost", "production.localhost"
PRODUCTION = """verify_for = "1s"
[env.production]
hosts = ["{front}"]
processes = {{ web = 1 }}
promote_from = "testing"
approvals = 1
approvers = ["group:daemon"]
notify = [{{ webhook = "{hook}", on = ["waiting", "succeeded", "emergency", "cancelled"] }}]
{more}
"""


def asked_by(user: str, machine: Machine, path: str, request: Json) -> int:
    """POST *request* as *user*; return the exit code that the command line would end with."""
    entry, client = pwd.getpwnam(user), Client(machine.installation.socket)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(os.getgrouplist(user, entry.pw_gid))
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            client.post(path, request)
            os._exit(0)
        except StelaeError as error:
            os._exit(error.exit_code)
        except BaseException:  # noqa: BLE001 - a child of the test must not go on as the test
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reachable(machine: Machine) -> None:
    """Let every user of the machine talk to the controller of the test."""
    machine.folder.chmod(0o755)
    machine.installation.run.chmod(0o755)
    machine.installation.socket.chmod(0o666)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def row(machine: Machine, environment: str) -> Any:
    rows = machine.json("status", environment)["environments"]
    return rows[0]


def test_verified_on_one_machine_and_approved_on_another(tmp_path: Path) -> None:
    with (
        collector() as (hook, told),
        running(tmp_path / "registry") as registry,
        Machine(seed=False) as staging,
        Machine(seed=False) as production,
    ):
        more = PRODUCTION.format(front=FRONT, hook=hook, more="")
        name = f"{registry.address}/tiny:1"
        for machine in (staging, production):
            tiny.make(machine.start(), more=more)

        # Verified there, and signed.
        staging.cli("deploy", "testing")
        image = str(row(staging, "testing")["image"])
        until(lambda: row(staging, "testing")["state"] == "verified")
        until(lambda: "verification-signed" in json.dumps(staging.client.get("/v1/history", everything=True)))
        staging.cli("push", image, name)
        (tmp_path / "staging.pem").write_text(staging.cli("key", "show").stdout)

        # Let in here on that word alone.
        production.cli("pull", name)
        refused = production.cli("deploy", "production", "--image", image, check=False)
        assert (refused.returncode, "never verified in testing" in refused.stderr) == (3, True)
        production.cli("trust", "add", tmp_path / "staging.pem", "--verifies", "tiny/testing")
        plan = production.cli("plan", "production", "--image", image).stdout
        assert "verified in testing" in plan
        assert "approvals 0/1 (daemon)" in plan
        begun = production.json("deploy", "production", "--image", image, "--detach")
        assert "verified in testing" in begun["note"]
        until(lambda: bool((row(production, "production")["rollout"] or {}).get("asks")))
        assert row(production, "production")["state"] == "waiting"
        assert row(production, "production")["instances"]["ready"] == 0

        # Approved by a second person, also across a crash of the controller.
        production.kill()
        production.start()
        reachable(production)
        request = {"environment": "tiny/production", "deployment": begun["deployment"], "reason": "looked at it"}
        assert production.cli("approve", "production", check=False).returncode == 3, "root asked, and is no second"
        assert asked_by("nobody", production, "/v1/approvals", request) == 3, "not in the group"
        assert asked_by("daemon", production, "/v1/approvals", request) == 0
        until(lambda: row(production, "production")["instances"]["ready"] == 1)
        until(lambda: row(production, "production")["rollout"] is None)
        assert tiny.ask(production, FRONT) == "version 1"
        history = production.cli("history").stdout
        for words in ("comes in on the word of", "approved for daemon (looked at it)", "approve refused"):
            assert words in history, history
        (now,) = production.client.get("/v1/state", at=time.time_ns() // 1000, environment="tiny/production")[
            "environments"
        ]
        assert now["approved_by"] == ["daemon"]
        until(lambda: {json.loads(body)["moment"] for _, body in told} >= {"waiting", "succeeded"})

        # Frozen: refused, or an emergency that is told and still needs its approval.
        always = 'freeze = [{ from = "0 0 * * *", for = "24h", reason = "audit" }]'
        text = (production.app / "stelae.toml").read_text()
        production.write(
            "stelae.toml", text.replace('promote_from = "testing"', f'promote_from = "testing"\n{always}')
        )
        production.commit("freeze")
        production.cli("env", "apply")
        refused = production.cli("deploy", "production", "--image", image, check=False)
        assert refused.returncode == 3
        assert "is frozen until" in refused.stderr
        assert "--emergency" in refused.stderr
        urgent = production.json("deploy", "production", "--image", image, "--emergency", "it burns", "--detach")
        until(lambda: "emergency" in {json.loads(body)["moment"] for _, body in told})
        assert row(production, "production")["state"] == "waiting"
        rejected = {"environment": "tiny/production", "deployment": urgent["deployment"], "reason": "it does not"}
        assert asked_by("daemon", production, "/v1/rejections", rejected) == 0
        ended = production.client.get(f"/v1/deployments/{urgent['deployment']}")
        assert (ended["outcome"], ended["emergency"]) == ("cancelled", "it burns")
        assert ended["why"] == "rejected by daemon: it does not"
        until(lambda: "cancelled" in {json.loads(body)["moment"] for _, body in told})
        assert tiny.ask(production, FRONT) == "version 1"
        assert production.client.post("/v1/verify-ledger")["size"] > 0
