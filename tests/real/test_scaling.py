"""Counts that follow the load, and crash loops that are told, on real instances behind the real proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from stelae.testing.load import Load
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = pytest.mark.real

MOST = 5
SCALED = (
    f"{{ web = {{ min = 1, max = {MOST}, target_rps = 20, "
    'down = { window = "2s", share = "100%", period = "1s" } } }'
)

COMMAND = '"/app/busybox", "httpd", "-f", "-vv", "-p", "8000", "-h", "/app/www"'


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(seed=False) as made:
        yield made.start()


def deploy(machine: Machine, *changes: tuple[str, str]) -> None:
    tiny.make(machine)
    spec = (machine.app / "stelae.toml").read_text()
    for old, new in changes:
        assert old in spec
        spec = spec.replace(old, new)
    machine.write("stelae.toml", spec).commit("changed")
    machine.cli("env", "apply")
    machine.cli("deploy", "testing", "--image", machine.json("build")["image"])


def test_instances_follow_the_load_up_and_down_and_no_request_fails(machine: Machine) -> None:
    deploy(machine, ("{ web = 2 }", SCALED))
    web = machine.status()["processes"]["web"]
    assert (web["min"], web["max"]) == (1, MOST)
    machine.until("one is left", lambda: machine.status()["processes"]["web"]["wanted"] == 1)
    with Load("127.0.0.1", machine.installation.http_port, host=tiny.HOST, rate=20 * MOST + 20, posts=False) as load:
        machine.until("all are ready", lambda: machine.status()["instances"] == {"ready": MOST, "wanted": MOST})
        assert f"{MOST}/{MOST} of 1-{MOST}" in machine.cli("status").stdout
        refused = machine.cli("scale", "testing", f"web={MOST + 1}", check=False)
        assert refused.returncode == 2
        assert f"scales it between 1 and {MOST}" in refused.stderr
        time.sleep(1)
        result = load.stop()
    machine.until("one is left", lambda: machine.status()["instances"] == {"ready": 1, "wanted": 1})
    assert not result.failures, str(result)
    assert result.ok > 50
    scaled = [
        event for event in machine.json("history", "testing")["events"] if event["kind"] == "environment.scaled"
    ]
    assert {event["actor"] for event in scaled} == {"autoscale"}
    assert any("requests a second, target 20 each" in event["text"] for event in scaled)
    assert "web 1 to 5, now 1 (target_rps 20)" in machine.cli("env", "show").stdout
    assert machine.differences_soon() == []


def test_processor_time_scales_too(machine: Machine) -> None:
    busy = '"/app/busybox", "sh", "-c", "/app/busybox httpd -p 8000 -h /app/www; while :; do :; done"'
    scaled = '{ web = { min = 1, max = 2, target_cpu = "50%" } }'
    deploy(machine, ("{ web = 2 }", scaled), (COMMAND, busy), ('memory = "16MiB"', 'memory = "16MiB"\ncpu = "0.1"'))
    machine.cli("scale", "testing", "web=1")
    machine.until("another one", lambda: machine.status()["instances"] == {"ready": 2, "wanted": 2})
    history = machine.json("history", "testing")["events"]
    (event,) = [event for event in history if event["actor"] == "autoscale"]
    assert " % of the processor each, target 50 %" in event["text"]


def test_a_crash_loop_is_told_with_how_it_ends_and_what_it_said_last(machine: Machine) -> None:
    words = '"/app/busybox", "sh", "-c", "/app/busybox httpd -p 8000 -h /app/www; sleep 1; echo no database; exit 3"'
    deploy(machine, ("{ web = 2 }", "{ web = 1 }"), (COMMAND, words.replace(" sleep", " /app/busybox sleep")))
    machine.until("a crash loop", lambda: machine.status()["crash_loops"])
    row = machine.status()
    (loop,) = row["crash_loops"]
    assert row["state"] == "degraded"
    assert (loop["process"], loop["why"], loop["last_lines"]) == ("web", "exited with status 3", ["no database"])
    assert row["detail"].startswith("crash loop: web exited with status 3, ")
    said = machine.cli("status").stdout
    assert "crash loop: web exited with status 3, " in said
    assert "testing web  no database" in said
    machine.until("it waits", lambda: "; next try in " in machine.cli("status").stdout)
