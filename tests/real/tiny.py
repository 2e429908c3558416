"""A small app of one program on an empty base, for tests in which every byte of the disk counts."""

from __future__ import annotations

import http.client
import os
import shutil
from pathlib import Path

import pytest

from tests.real.machine import Machine

HOST = "tiny.localhost"
SPEC = """
[app]
name = "tiny"

[image]
base = "scratch"
user = "app"

[process.web]
command = ["/app/busybox", "httpd", "-f", "-vv", "-p", "8000", "-h", "/app/www"]
port = 8000
health = {{ path = "/index.html", interval = "500ms", start = "10s" }}
drain = "1s"
stop = "1s"
memory = "16MiB"

[env.testing]
hosts = ["{host}"]
processes = {{ web = 2 }}
strategy = {{ kind = "{kind}", min_healthy = "0s" }}
{more}
"""


def make(machine: Machine, *, kind: str = "blue-green", more: str = "", host: str = HOST) -> Machine:
    """Make the app's repository, commit version 1, and apply its environment."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox-static")
    (machine.app / "www").mkdir(parents=True)
    shutil.copy(busybox, machine.app / "busybox")
    machine.git("init", "-q", "-b", "main")
    machine.write("stelae.toml", SPEC.format(kind=kind, more=more, host=host))
    version(machine, "1")
    machine.cli("env", "apply")
    return machine


def version(machine: Machine, number: str, *, weight: int = 0) -> None:
    """Commit the next version; *weight* is how many bytes it has that nothing can make smaller."""
    machine.write("www/index.html", f"version {number}\n")
    Path(machine.app, "weight").write_bytes(os.urandom(weight))
    machine.commit(f"version {number}")


def ask(machine: Machine, host: str = HOST) -> str:
    """Return what the app answers."""
    connection = http.client.HTTPConnection("127.0.0.1", machine.installation.http_port, timeout=10)
    try:
        connection.request("GET", "/index.html", headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, (answer.status, body)
        return body.strip()
    finally:
        connection.close()
