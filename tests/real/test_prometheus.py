"""Checks by a real Prometheus that scrapes an exporter of the test: what it answers, and a canary that it stops."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import checks
from stelae.core.checks import Due, _quoted
from stelae.domain.check import CheckVerdict
from stelae.domain.strategy import Check, CheckKind
from tests.ports import free_port
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(200)]

PASS, FAIL, SILENT = CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.SILENT

CONFIG = """
global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}
scrape_configs:
  - job_name: shop
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""


class Exporter:
    """Tells ``queue{shop="x"}``; ``value`` is its number."""

    def __init__(self) -> None:
        self.value = 3.0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f'queue{{shop="x"}} {owner.value}\nqueue{{shop="y"}} NaN\n'.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,)).start()


class Monitor:
    """The exporter, and a Prometheus at ``url``."""

    def __init__(self, exporter: Exporter, url: str) -> None:
        self.exporter, self.url = exporter, url

    def ask(self, query: str, **limits: Any) -> checks.Answer:
        check = Check(name="queue", kind=CheckKind.PROMETHEUS, url=self.url, **limits)
        return checks.answer(Due(check=check, deployment="d-1", step=0, at=0, query=query, facts={}))

    def until(self, query: str, value: str) -> None:
        deadline = time.monotonic() + 30
        while self.ask(query, least="0")[1] != value:
            assert time.monotonic() < deadline, self.ask(query, least="0")
            time.sleep(0.05)


@pytest.fixture
def monitor(running: Monitor) -> Monitor:
    """The monitor, at which the queue is 3 long."""
    running.exporter.value = 3.0
    running.until('queue{shop="x"}', "3")
    return running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    exporter, port = Exporter(), free_port()
    (folder / "prometheus.yml").write_text(CONFIG.format(port=exporter.server.server_port))
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Monitor(exporter, f"http://127.0.0.1:{port}")
    finally:
        program.terminate()
        program.wait(20)
        exporter.server.shutdown()
        exporter.server.server_close()


def test_what_a_real_prometheus_answers(monitor: Monitor) -> None:
    assert monitor.ask('queue{shop="x"}', most="3") == (PASS, "3", "3")
    assert monitor.ask('queue{shop="x"} * 2', most="5") == (FAIL, "6", "6 is above 5")
    assert monitor.ask("scalar(queue{shop='x'})", least="3.5") == (FAIL, "3", "3 is below 3.5")
    assert monitor.ask('queue{shop="x"} / 0', most="5") == (FAIL, "+Inf", "+Inf is above 5")
    assert monitor.ask('queue{shop="y"}', most="5") == (SILENT, "NaN", "'NaN' is no number")
    assert monitor.ask("queue", most="5") == (SILENT, "", "the query gave 2 series, not one number")
    assert monitor.ask('queue{shop="z"}', most="5") == (SILENT, "", "the query gave no series, not one number")
    assert monitor.ask('queue{shop="x"}[1m]', most="5")[2] == "the query gave a matrix, not one number"
    assert monitor.ask("queue{", most="5")[2].startswith("Prometheus answered 400: ")


def test_what_is_put_in_stays_inside_its_quotes(monitor: Monitor) -> None:
    """The text that would end the string is an exporter's label that does not exist, and no other query."""
    for hostile in ('x"} or vector(1) #', 'x\\"} or vector(1) #', "x\n\"} or vector(1) #'`", "x"):
        query = 'queue{shop="' + _quoted(hostile) + '"}'
        answer = monitor.ask(query, most="5")
        assert answer[0] is (PASS if hostile == "x" else SILENT), answer
        assert hostile == "x" or answer[2] == "the query gave no series, not one number"


ENVIRONMENT = """
[env.canary]
hosts = ["canary.localhost"]
processes = {{ web = 1 }}
settings = {{ ROUND = "{round}" }}
[env.canary.strategy]
kind = "canary"
steps = [50]
soak = "{soak}"
min_healthy = "0s"
[[env.canary.strategy.checks]]
name = "queue"
prometheus = "{url}"
query = 'queue{{shop="x"}}'
most = 5
interval = "1s"
"""


def test_a_canary_that_a_check_stops_and_a_fix_that_it_does_not(monitor: Monitor) -> None:
    with Machine() as machine:
        tiny.make(machine.start())
        rounds = iter(range(9))

        def settle(soak: str) -> None:
            machine.git("checkout", "-q", "stelae.toml")
            text = (machine.app / "stelae.toml").read_text().partition("\n[env.canary]")[0]
            machine.write("stelae.toml", text + ENVIRONMENT.format(round=next(rounds), soak=soak, url=monitor.url))
            machine.commit("another round")
            machine.cli("env", "apply")

        settle("1s")
        image = machine.json("build")["image"]
        machine.cli("deploy", "canary", "--image", image)
        settle("1s")
        machine.cli("deploy", "canary", "--image", image)
        good = machine.status("canary")["release"]

        settle("60s")
        bad = machine.background("deploy", "canary", "--image", image)
        machine.until("it is held", lambda: "s left" in machine.status("canary")["detail"])
        monitor.exporter.value = 9.0
        output, _ = bad.communicate(timeout=60)
        assert "reverted: check queue failed 2 times in a row: 9 is above 5" in output, output
        assert machine.status("canary")["release"] == good

        monitor.until('queue{shop="x"}', "9")
        settle("1s")
        machine.cli("deploy", "canary", "--image", image)
        assert machine.status("canary")["release"] != good
        said = machine.client.get("/v1/history", environment="tiny/canary", limit=60, everything=True)["events"]
        texts = [item["text"] for item in said]
        assert any(
            "check queue fails: 9 is above 5, as it did for the old release, which does not count" in text
            for text in texts
        ), texts
        connection = http.client.HTTPConnection("127.0.0.1", machine.installation.http_port, timeout=10)
        connection.request("GET", "/index.html", headers={"Host": "canary.localhost"})
        assert connection.getresponse().status == 200
        connection.close()
