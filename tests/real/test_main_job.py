"""The main job on real parts: deploy, deploy again, roll back, under load, without a dropped request."""

from __future__ import annotations

import pytest

from stelae.testing.load import Collector, Download, Echo, Load
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

HOST = "guestbook.testing.localhost"
FAST = '[env.testing]\nstrategy = {{ kind = "{kind}", min_healthy = "0s"{batch} }}\n{more}'


def configure(machine: Machine, kind: str, *, collector: int = 0, more: str = "", web: int = 2) -> None:
    """Set the testing environment's strategy, counts and where entries are collected."""
    settings = f'settings = {{ COLLECTOR_URL = "http://host.stelae.internal:{collector}" }}\n' if collector else ""
    text = (machine.app / "stelae.toml").read_text().partition("[env.testing]")[0]
    batch = ', batch = "100%"' if kind == "rolling" else ""
    text += FAST.format(kind=kind, batch=batch, more=more) + settings
    text += f'hosts = ["{HOST}"]\nprocesses = {{ web = {web}, worker = 1 }}\n'
    (machine.app / "stelae.toml").write_text(text)
    machine.commit(f"configure {kind}")
    machine.cli("env", "apply")


def test_twenty_deployments_and_rollbacks_lose_nothing(machine: Machine) -> None:
    port = machine.installation.http_port
    with Collector("0.0.0.0") as collector:
        configure(machine, "rolling", collector=collector.port)
        machine.version("1")
        machine.cli("deploy", "testing")
        with Load("127.0.0.1", port, host=HOST, rate=60) as load:
            for number in range(10):
                kind = ("rolling", "blue-green")[number % 2]
                machine.version(f"{number + 2}")
                machine.cli("deploy", "testing", "--strategy", kind)
                machine.cli("rollback", "testing")
                assert machine.differences_soon() == []
        result = load.stop()
        counts = collector.counts()
    print(result)
    assert not result.failures, result.failures[:5]
    assert result.lost(counts) == frozenset()
    assert result.doubled(counts) == frozenset()
    assert result.ok > 500
    assert len(result.versions) == 11


@pytest.mark.parametrize("kind", ["rolling", "blue-green"])
def test_a_long_download_and_a_websocket_end_whole(machine: Machine, kind: str) -> None:
    port = machine.installation.http_port
    configure(machine, kind)
    machine.cli("deploy", "testing")
    first = machine.status()["release"]
    with Download("127.0.0.1", port, host=HOST, seconds=20) as download, Echo("127.0.0.1", port, host=HOST) as echo:
        machine.version("2")
        machine.cli("deploy", "testing")
        assert machine.status()["release"] != first
        done = download.wait(60)
        talked = echo.stop()
    assert done.whole, done
    assert talked.problem == "", talked
    machine.at_rest()


def test_scale_up_and_down_and_settings_alone_make_a_release(machine: Machine) -> None:
    configure(machine, "rolling")
    machine.cli("deploy", "testing")
    before = machine.status()
    machine.cli("scale", "testing", "web=4")
    machine.until("four are ready", lambda: machine.ready() == (4, 4))
    machine.cli("scale", "testing", "web=1")
    machine.at_rest()
    assert machine.ready() == (1, 1)
    configure(machine, "rolling", more='settings = { GREETING = "hello" }\n', web=1)
    machine.cli("deploy", "testing", "--image", before["image"])
    after = machine.status()
    assert after["image"] == before["image"]
    assert after["release"] != before["release"]
    machine.cli("rollback", "testing")
    assert machine.status()["release"] == before["release"]


def test_two_environments_share_an_image_and_promotion_needs_verification(machine: Machine) -> None:
    machine.cli("env", "apply")
    image = machine.json("build")["image"]
    refused = machine.cli("deploy", "staging", "--image", image, check=False)
    assert refused.returncode == 3
    assert "was never verified in testing" in refused.stderr
    machine.cli("deploy", "testing")
    machine.cli("deploy", "staging", "--image", image)
    rows = [machine.status("testing"), machine.status("staging")]
    assert {row["image"] for row in rows} == {image}
    assert rows[0]["release"] != rows[1]["release"]
    history = machine.cli("history", "staging").stdout
    assert "refused" in history


def test_down_ends_everything_and_up_serves_again(machine: Machine) -> None:
    configure(machine, "rolling")
    machine.cli("deploy", "testing")
    release = machine.status()["release"]
    machine.client.post("/v1/down", {"app": "guestbook"})
    assert machine.differences() == []
    assert machine.status()["state"] == "down"
    machine.client.post("/v1/start", {"app": "guestbook"})
    machine.until("it serves", lambda: machine.status()["state"] == "steady")
    assert machine.status()["release"] == release
