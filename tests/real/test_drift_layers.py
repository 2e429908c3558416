"""A layer that somebody writes to while instances run on it, on a whole machine: alarm, storm, sound replacements."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from stelae.images.erofs import verify_layer
from stelae.images.layout import Layout
from stelae.testing.load import Load
from tests.real.machine import Machine
from tests.real.test_drift_answers import happened, running
from tests.real.test_main_job import HOST, configure

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def found_of(machine: Machine) -> list[dict[str, Any]]:
    return happened(machine, "drift.found")


def test_a_write_to_a_layer_is_found_at_once_and_replacements_get_a_sound_one(machine: Machine) -> None:
    configure(machine, "rolling", web=2)
    machine.version("1")
    machine.cli("deploy", "testing")
    machine.at_rest()
    before = set(running(machine))
    assert machine.cli("verify", "testing").returncode == 0
    image = machine.status()["image"]
    layer = Layout.open(machine.installation.images).layers(image)[0]
    file = machine.installation.layers / f"{layer[7:]}.erofs"
    assert file.stat().st_nlink == 1, "another machine has it too"
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=60) as load:
        time.sleep(0.5)
        began, times = time.monotonic(), file.stat()
        with file.open("r+b") as opened:
            opened.seek(-5000, os.SEEK_END)
            opened.write(b"evil")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        machine.until("it is found", lambda: found_of(machine))
        found = time.monotonic() - began
        machine.until("of each", lambda: before <= {item["text"].split()[0] for item in found_of(machine)})
        told = machine.cli("verify", "testing", check=False).stdout
        assert "a drift storm" in told
        assert f"written by process {os.getpid()}, user 0" in told
        machine.cli("replace", "testing", "--drifted", "--reason", "it was a test")
        machine.until("they are replaced", lambda: not before & set(running(machine)), 60)
        machine.at_rest()
        result = load.stop()
    print(f"found after {found:.2f} s; {result}")
    assert found < 2
    assert not result.failures, result.failures[:5]
    verify_layer(machine.installation.layers, layer)
    assert machine.cli("verify", "testing").returncode == 0
    assert machine.differences_soon() == []
