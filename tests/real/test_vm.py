"""A machine for each instance: an app is made a disk, boots in QEMU behind the proxy, and outlives its controller.

Emulated, a boot takes 10 s and more, and fails now and then: what is deployed is then deployed again. The contract of
a platform, and rollouts under load, are tested so by ``make test-vm`` (tests/machines).
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from stelae.platforms.vm import accelerator
from stelae.platforms.vm.command import PROGRAM
from tests.real import tiny
from tests.real.emulated import HOST, deploy, make
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def test_an_app_serves_from_a_machine_of_its_own() -> None:
    if not Path(PROGRAM).exists():
        pytest.skip("needs qemu-system-x86")
    with Machine() as machine:
        make(machine)
        machine.commit("a machine takes longer").cli("env", "apply")
        deploy(machine)
        assert tiny.ask(machine, HOST) == "version 1"
        assert "url:/index.html" in machine.cli("logs", "machines").stdout, "what its program writes is not kept"
        row = machine.status("machines")
        assert row["state"] == "steady", row
        machine.kill()
        assert tiny.ask(machine, HOST) == "version 1", "it ended with its controller"
        machine.start()
        machine.at_rest()
        assert machine.status("machines")["release"] == row["release"]
        assert tiny.ask(machine, HOST) == "version 1"


def test_the_machine_that_is_tried_for_kvm_says_so_where_it_runs() -> None:
    if not Path(PROGRAM).exists():
        pytest.skip("needs qemu-system-x86")
    words = {"kvm": "tcg"}
    with tempfile.NamedTemporaryFile() as file:
        file.write(accelerator.SECTOR)
        file.flush()
        command = [words.get(word, word) for word in accelerator.command(file.name)]
        assert subprocess.run(command, timeout=60, check=False).returncode == accelerator.STATUS
