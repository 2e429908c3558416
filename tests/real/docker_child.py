"""What the engine does where Docker is: run in a network namespace of its own, in which it makes Docker's chain.

The chain is one for the whole network namespace, and every installation puts rules of its own into it: in that of the
machine, those of the tests that run beside.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

from stelae.platforms.local.engine import LocalEngine
from stelae.system.installation import Installation
from tests.real.busybox import CONFIG, ErofsRoots
from tests.real.machine import ROOT

ENTER = """
set -e
mount --rbind /sys/fs/cgroup "$1"
mount -t sysfs sysfs /sys
mount --rbind "$1" /sys/fs/cgroup
shift
exec "$@"
"""
"""In the new namespaces, with an empty folder and a command: has ``/sys`` tell of the new network."""


def listed(installation: Installation, folder: Path) -> list[list[str]]:
    """Return the rules of Docker's chain when our network was ensured twice, and when it was torn down."""
    enter = ["unshare", "--net", "--mount", "--", "sh", "-c", ENTER, "sh", str(folder)]
    who = [installation.name, str(installation.state), str(installation.run), str(installation.subnet)]
    command = [*enter, sys.executable, "-m", __name__, *who]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found: list[list[str]] = json.loads(ran.stdout)
    return found


def _rules() -> list[str]:
    command = ["iptables", "-S", "DOCKER-USER"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()


async def _main(name: str, state: str, run: str, subnet: str) -> None:
    subprocess.run(["iptables", "-N", "DOCKER-USER"], check=True)
    made = Installation(name=name, state=Path(state), run=Path(run), subnet=IPv4Network(subnet))
    engine = LocalEngine(made, ErofsRoots(made, Path("/nowhere")), lambda _: CONFIG)
    try:
        await engine.ensure_network()
        await engine.ensure_network()
        there = _rules()
        await engine.teardown()
        print(json.dumps([there, _rules()]))
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
