"""Jobs on real parts: a migration that runs once whatever dies, one that fails, and commands of a person."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stelae.domain.errors import StelaeError
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

JOBS = """
[job.migrate]
command = ["/app/busybox", "sh", "-c", "{script}"]
when = "before-traffic"
timeout = "20s"
memory = "16MiB"

[job.hang]
command = ["/app/busybox", "sh", "-c", "trap '' TERM; echo hangs; while :; do /app/busybox sleep 0.1; done"]
timeout = "1s"
memory = "16MiB"
"""
SCRIPT = (
    "/app/busybox wget -q -O /dev/null $COUNTER/$STELAE_INSTANCE || exit 9; echo migrating to $STEP; "
    "/app/busybox sleep $SLEEP; echo done; exit $CODE"
)


class Counted:
    """A server that counts who asked for what: each start of a job asks once."""

    def __init__(self) -> None:
        counts: Counter[str] = Counter()
        self.counts = counts

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                counts[self.path.removeprefix("/")] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Counted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def machine_with_jobs() -> Iterator[tuple[Machine, Counted, str]]:
    """A machine whose app has jobs, with its first image built and its environment applied."""
    with Counted() as counted, Machine(seed=False) as machine:
        machine.start()
        tiny.make(machine)
        settle(machine, counted)
        yield machine, counted, build(machine)


def settle(machine: Machine, counted: Counted, step: str = "1", sleep: str = "0", code: str = "0") -> None:
    """Apply settings by which the migration behaves like that; another step is another release."""
    url = f"http://host.stelae.internal:{counted.port}"
    settings = {"COUNTER": url, "STEP": step, "SLEEP": sleep, "CODE": code}
    words = ", ".join(f'{name} = "{value}"' for name, value in settings.items())
    text = tiny.SPEC.format(kind="blue-green", host=tiny.HOST, more=f"settings = {{ {words} }}")
    machine.write("stelae.toml", text.replace("[env.testing]", JOBS.format(script=SCRIPT) + "\n[env.testing]"))
    machine.cli("env", "apply")


def build(machine: Machine) -> str:
    machine.commit("jobs")
    return str(machine.json("build")["image"])


def request(image: str) -> dict[str, Any]:
    return {
        "environment": "tiny/testing", "image": image, "release": "", "strategy": "", "supersede": False,
        "reason": "", "key": uuid.uuid4().hex,
    }  # fmt: skip


def ended(machine: Machine, deployment: str) -> Any:
    """Wait until *deployment* has ended and return it."""
    path = f"/v1/deployments/{deployment}"
    machine.until(f"{deployment} ends", lambda: machine.client.get(path)["outcome"] != "", 60)
    return machine.client.get(path)


POINTS = ("action.launch.before", "action.launch.after", "ledger.append.after:3")


def test_a_migration_runs_once_whatever_dies() -> None:
    with machine_with_jobs() as (machine, counted, image):
        machine.cli("deploy", "testing", "--image", image)
        for number, point in enumerate(POINTS):
            settle(machine, counted, step=f"{number + 2}", sleep="0.2")
            body = _dies_at(machine, point, image)
            done = ended(machine, machine.client.post("/v1/deployments", body)["deployment"])
            assert done["outcome"] == "succeeded", (point, done)
            (run,) = done["runs"]
            assert counted.counts[run["run"]] == 1, (point, counted.counts)
            assert run["lines"] == [f"migrating to {number + 2}", "done"]
        assert machine.differences_soon() == []
        _killed_in_the_middle(machine, counted, image)
        _without_power(machine, counted, image)
        assert max(counted.counts.values()) == 1, counted.counts


def _dies_at(machine: Machine, point: str, image: str) -> dict[str, Any]:
    """Have the controller die at *point* of a deployment, start it again, and return the request."""
    machine.stop()
    body = request(image)
    controller = machine.spawn(STELAE_CRASH_AT=point)
    with suppress(AssertionError):
        machine.answers()
        with suppress(StelaeError):
            machine.client.post("/v1/deployments", body)
    assert controller.wait(60) == -signal.SIGKILL, f"it never came to {point}"
    machine.controller = None
    machine.start()
    return body


def _killed_in_the_middle(machine: Machine, counted: Counted, image: str) -> None:
    """While the migration is being launched nobody knows where it is; then its outcome may be unknown."""
    settle(machine, counted, step="killed", sleep="0.2")
    begun = machine.client.post("/v1/deployments", request(image))["deployment"]
    time.sleep(0.08)
    machine.kill()
    machine.start()
    (run,) = ended(machine, begun)["runs"]
    assert run["outcome"] in ("succeeded", "unknown"), run
    assert counted.counts[run["run"]] == 1 or run["outcome"] == "unknown", run


def _without_power(machine: Machine, counted: Counted, image: str) -> None:
    settle(machine, counted, step="power", sleep="30")
    begun = machine.client.post("/v1/deployments", request(image))["deployment"]
    machine.until("the migration runs", lambda: any(counted.counts[run["run"]] for run in machine.status()["runs"]))
    machine.power_off()
    machine.start()
    done = ended(machine, begun)
    (run,) = done["runs"]
    assert (done["outcome"], run["outcome"], counted.counts[run["run"]]) == ("reverted", "unknown", 1)
    assert "nobody knows how it ended" in done["why"]


def test_a_migration_that_fails_moves_nothing_and_going_back_across_one_asks() -> None:
    with machine_with_jobs() as (machine, counted, image):
        machine.cli("deploy", "testing", "--image", image)
        before = machine.status()
        settle(machine, counted, step="2", code="3")
        ran = machine.cli("deploy", "testing", "--image", image, check=False)
        assert ran.returncode == 1
        assert "job migrate (migrate-" in ran.stderr
        assert "failed: it exited with status 3" in ran.stderr
        assert "migrating to 2" in ran.stderr
        after = machine.status()
        assert (after["release"], after["traffic"], after["since"]) == (
            before["release"], before["traffic"], before["since"],
        )  # fmt: skip
        events = machine.json("history", "testing", "-n", "1000", "--all")["events"]
        failed = next(item["index"] for item in events if item["text"].startswith("d-2: "))
        since = [item["text"] for item in events if item["index"] > failed]
        assert [text for text in since if " launch " in text or " route to " in text] == [
            text for text in since if " launch migrate-" in text
        ], since
        name = machine.json("show", "d-2")["runs"][0]["run"]
        assert machine.json("show", name)["status"] == 3
        assert f"{name} | migrating to 2" in machine.cli("logs", "testing", "--run", name).stdout
        assert f"{name} | done" in machine.cli("logs", "testing", "--job", "migrate").stdout
        settle(machine, counted, step="3")
        tiny.version(machine, "2")
        machine.cli("deploy", "testing", "--image", machine.json("build")["image"])
        plan = machine.cli("plan", "testing", "--rollback").stdout
        assert "across migrate of r-" in plan
        refused = machine.cli("rollback", "testing", check=False)
        assert refused.returncode == 3
        assert "which cannot be undone" in refused.stderr
        assert "--yes" in refused.stderr
        runs = len(counted.counts)
        machine.cli("rollback", "testing", "--yes")
        assert tiny.ask(machine) == "version 1"
        assert len(counted.counts) == runs, "a rollback ran a job"
        assert machine.differences_soon() == []


def test_a_command_of_a_person() -> None:
    with machine_with_jobs() as (machine, _, image):
        refused = machine.cli("run", "testing", "--", "/app/busybox", "true", check=False)
        assert (refused.returncode, "runs no release yet" in refused.stderr) == (2, True)
        machine.cli("deploy", "testing", "--image", image)
        script = "echo $STEP; echo no >&2; exit $1"
        ran = machine.cli("run", "testing", "--", "/app/busybox", "sh", "-c", script, "x", "0")
        assert (ran.stdout, ran.stderr.splitlines()[0]) == ("1\n", "no")
        ran = machine.cli("run", "testing", "--", "/app/busybox", "sh", "-c", script, "x", "7", check=False)
        assert (ran.returncode, ran.stdout) == (1, "1\n")
        assert "failed: it exited with status 7" in ran.stderr
        ran = machine.cli("run", "testing", "--", "/app/no-such-program", check=False)
        assert (ran.returncode, "could not be started" in ran.stderr) == (1, True)
        started = time.monotonic()
        slow = machine.background("run", "testing", "--job", "hang")
        machine.until("it runs", lambda: machine.status()["runs"])
        busy = machine.cli("run", "testing", "--job", "hang", check=False)
        assert (busy.returncode, "runs already" in busy.stderr) == (4, True)
        out = slow.communicate(timeout=60)[0]
        assert slow.returncode == 1
        assert out.splitlines()[0] == "hangs"
        assert "timed out: it did not end within 1 s" in out
        assert time.monotonic() - started < 20
        _interrupted(machine)
        assert machine.differences_soon() == []
        assert not list((machine.installation.state / "runs").iterdir()), "marks of runs are left"


def _interrupted(machine: Machine) -> None:
    """Ctrl-C has the run end, and says so."""
    script = "echo up; exec /app/busybox sleep 60"
    command = machine.background("run", "testing", "--", "/app/busybox", "sh", "-c", script)
    machine.until("it runs", lambda: machine.status()["runs"])
    name = machine.status()["runs"][0]["run"]
    machine.until("it said so", lambda: "up" in machine.cli("logs", "testing", "--run", name, check=False).stdout)
    command.send_signal(signal.SIGINT)
    out = command.communicate(timeout=60)[0]
    assert command.returncode == 1, out
    assert f"{name} is being ended" in out
    assert f"{name} cancelled: cancelled by root" in out
