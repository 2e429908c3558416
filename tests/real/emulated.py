"""An app in an environment of machines, which QEMU emulates: a boot takes 10 s and more, and fails now and then."""

from __future__ import annotations

from tests.real import tiny
from tests.real.boot_seed import DISK, lend_boot
from tests.real.machine import Machine

HOST = "machines.localhost"
_TRIES = 4
_ENVIRONMENT = f"""
[env.machines]
hosts = ["{HOST}"]
processes = {{ web = 1 }}
platform = "vm"
strategy = {{ kind = "blue-green", min_healthy = "0s" }}
{DISK}
"""


def make(machine: Machine) -> None:
    """Start Stelae on *machine* with the tiny app, whose environment "machines" has the time that a boot takes."""
    lend_boot(machine.installation.state)
    tiny.make(machine.start(), more=_ENVIRONMENT)
    machine.edit("stelae.toml", 'memory = "16MiB"', 'memory = "32MiB"')
    machine.edit("stelae.toml", 'start = "10s"', 'start = "120s"')


def deploy(machine: Machine) -> None:
    """Deploy the app to machines, again where a boot fails."""
    for _ in range(_TRIES):
        done = machine.cli("deploy", "machines", check=False)
        if done.returncode == 0:
            return
        print(done.stdout, done.stderr)
    raise AssertionError(f"no machine came up in {_TRIES} tries")
