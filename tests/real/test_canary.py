"""Canary, rolling by number and blue-green on real instances, under load: nothing is dropped, and the canary's shares
are what its steps say."""

from __future__ import annotations

import pytest

from stelae.testing.load import Collector, Download, Echo, Load
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

HOST = "guestbook.testing.localhost"
PREVIEW = "next.guestbook.testing.localhost"
CANARY = f'kind = "canary", steps = [10, 50], soak = "8s", min_healthy = "0s", preview = "{PREVIEW}"'
BLUE_GREEN = 'kind = "blue-green", soak = "1s", min_healthy = "0s"'
BY_NUMBER = 'kind = "rolling", batch = 1, surge = "50%", min_healthy = "0s"'


def configure(machine: Machine, strategy: str, collector: int) -> None:
    text = (machine.app / "stelae.toml").read_text().partition("[env.testing]")[0]
    text += f'[env.testing]\nhosts = ["{HOST}"]\nprocesses = {{ web = 3, worker = 1 }}\nstrategy = {{ {strategy} }}\n'
    text += f'settings = {{ COLLECTOR_URL = "http://host.stelae.internal:{collector}" }}\n'
    text = text.replace('drain = "30s"', 'drain = "120s"')  # a WebSocket stays open through all of them
    (machine.app / "stelae.toml").write_text(text)
    machine.commit("configure")
    machine.cli("env", "apply")


def test_a_canary_a_rolling_and_a_blue_green_deployment_lose_nothing(machine: Machine) -> None:
    port = machine.installation.http_port
    with Collector("0.0.0.0") as collector:
        configure(machine, CANARY, collector.port)
        machine.version("1")
        machine.cli("deploy", "testing")
        with (
            Load("127.0.0.1", port, host=HOST, rate=60) as load,
            Download("127.0.0.1", port, host=HOST, seconds=20) as download,
            Echo("127.0.0.1", port, host=HOST) as echo,
        ):
            machine.version("2")
            begun = machine.json("deploy", "testing", "--detach")
            machine.until("10 % are the candidate's", lambda: 900 <= share(machine, begun["release"]) <= 1_100)
            assert machine.cli("pause", "testing").stdout.endswith("paused at step 1 of 4\n")
            row = machine.status()
            assert (row["state"], row["rollout"]["share"]) == ("paused", 1_000)
            assert row["detail"].startswith("paused by ")
            machine.cli("resume", "testing")
            machine.until("half of them are", lambda: 4_900 <= share(machine, begun["release"]) <= 5_100)
            assert "goes on from step 2 of 4" in machine.cli("promote", "testing", "--now").stdout
            machine.until("it is over", lambda: machine.status()["rollout"] is None)
            assert machine.client.get(f"/v1/deployments/{begun['deployment']}")["outcome"] == "succeeded"
            for version, strategy in (("3", BY_NUMBER), ("4", BLUE_GREEN)):
                configure(machine, strategy, collector.port)
                machine.version(version)
                machine.cli("deploy", "testing")
            done, talked = download.wait(60), echo.stop()
        result = load.stop()
        counts = collector.counts()
    print(result)
    assert not result.failures, result.failures[:5]
    assert result.lost(counts) == frozenset()
    assert result.doubled(counts) == frozenset()
    assert len(result.versions) == 4
    assert done.whole, done
    assert talked.problem == "", talked
    machine.at_rest()


def share(machine: Machine, release: str) -> int:
    """The share of the traffic of *release*, in basis points."""
    return int(machine.status()["traffic"].get(release, 0))
