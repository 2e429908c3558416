"""A monitor that ended or was stopped, and instances that nobody launched."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local import record
from stelae.platforms.local.inspect.kernel import stat_of
from stelae.platforms.local.process import ProcessId
from tests.real.busybox import process, spec_of
from tests.real.drift_parts import Stage, until

pytestmark = [pytest.mark.real, pytest.mark.anyio]

SLEEPER = process("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


async def test_a_monitor_that_was_stopped_or_killed(stage: Stage) -> None:
    await stage.launch("web-1", SLEEPER)
    await stage.launch("web-2", SLEEPER)
    found = record.load(stage.place("web-1"))
    assert found is not None
    assert found.conmon is not None
    os.kill(found.conmon.pid, signal.SIGSTOP)
    await until(lambda: state(found.conmon) == "T")
    assert (await stage.found("web-1", "its monitor (conmon) was stopped")).kind is Drift.MONITOR
    os.kill(found.conmon.pid, signal.SIGCONT)
    await until(lambda: state(found.conmon) != "T")
    assert (await stage.sweep()).findings == ()
    os.kill(found.conmon.pid, signal.SIGKILL)
    await until(lambda: state(found.conmon) in ("", "Z"))
    assert (await stage.found("web-1", "its monitor (conmon) has ended")).kind is Drift.MONITOR


def state(process: ProcessId | None) -> str:
    assert process is not None
    stat = stat_of(process.pid)
    return "" if stat is None else stat.state


@pytest.mark.parametrize("name", ["shop.testing.evil-1", "by-hand", "no.such.environment"])
async def test_an_instance_that_somebody_made_by_hand(stage: Stage, name: str, tmp_path: Path) -> None:
    await stage.launch("web-1", SLEEPER)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    config = json.loads((stage.place("web-1").folder / "config.json").read_text())
    config["linux"]["cgroupsPath"] = f"/{stage.installation.name}/instances/{name}"
    config["linux"]["namespaces"] = [{"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}]
    del config["hostname"]
    (bundle / "config.json").write_text(json.dumps(config))
    found = record.load(stage.place("web-1"))
    assert found is not None
    runtime = [found.runtime, f"--root={tmp_path / 'runtime'}"]
    stage.attack(*runtime, "run", "--detach", "--bundle", str(bundle), name).wait(20)
    try:
        assert (await stage.sweep()).findings == ()  # it could be of a launch that is just being recorded
        await asyncio.sleep(1.1)
        (seen,) = (await stage.sweep()).findings
        assert (seen.kind, seen.instance) == (Drift.UNKNOWN, "")
        assert seen.what == f"an instance that nobody launched: {name}"
        assert any(line.startswith("processes ") for line in seen.evidence)
    finally:
        subprocess.run([*runtime, "delete", "--force", name], check=True)
    assert (await stage.sweep()).findings == ()


async def test_what_the_record_knows_but_no_more(stage: Stage) -> None:
    await stage.launch("web-1", SLEEPER)
    await stage.launch("run-1", SLEEPER)
    await asyncio.sleep(1.1)
    stage.forget("run-1")
    assert (await stage.sweep(known=("run-1",))).findings == ()
    (seen,) = (await stage.sweep()).findings
    assert seen.what == "an instance that nobody launched: shop.testing.run-1"
    assert {line.split()[1] for line in seen.evidence} >= {"folder", "network", "control", "container"}
    await stage.engine.remove(stage.place("run-1").environment_id, stage.place("run-1").instance)
    assert (await stage.sweep()).findings == ()
    shutil.rmtree(stage.place("run-1").folder, ignore_errors=True)


async def test_what_is_of_the_whole_machine_is_told_once(stage: Stage) -> None:
    await stage.launch("web-1", SLEEPER)
    first = EnvironmentId("another/testing")
    there = spec_of("web-1", SLEEPER, first)
    await stage.engine.launch(there)
    (stage.installation.run / "netns" / "strange").touch()
    subprocess.run(["nft", "delete", "table", "inet", stage.installation.name], check=True)
    await asyncio.sleep(1.1)
    assert (await stage.sweep()).findings == ()
    seen = await stage.engine.inspect(first, [there], {InstanceId("web-1")}, thorough=False)
    assert sorted((item.kind, item.instance) for item in seen.findings) == [(Drift.NETWORK, ""), (Drift.UNKNOWN, "")]
    await stage.engine.remove(first, InstanceId("web-1"))
    assert len((await stage.sweep()).findings) == 2  # now this one is the first
