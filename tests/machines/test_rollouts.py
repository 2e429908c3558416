"""Emulated machines behind the proxy, by a whole Stelae: rollouts under load, scale, a power cut, a flipped byte."""

from __future__ import annotations

import http.client
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from stelae.testing.load import Load
from tests.real import tiny
from tests.real.emulated import HOST, deploy, make
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

SECONDS = 240.0
WRITE = """#!/app/busybox sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
for place in /x /app/www/index.html /etc/hosts /bin/x; do
    echo x 2>&1 >"$place" && echo "$place was written"
done
mount -o remount,rw / 2>&1 && echo "remounted"
echo tried
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        make(made)
        cgi = made.app / "www" / "cgi-bin" / "write"
        cgi.parent.mkdir()
        cgi.write_text(WRITE)
        cgi.chmod(0o755)
        (made.app / "www" / "big").write_bytes(os.urandom(1 << 20))
        made.commit("a machine takes longer").cli("env", "apply")
        deploy(made)
        yield made


def get(machine: Machine, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", machine.installation.http_port, timeout=60)
    try:
        connection.request("GET", path, headers={"Host": HOST})
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        return answer.read()
    finally:
        connection.close()


def ready(machine: Machine, count: int) -> None:
    machine.until(f"{count} machines serve", lambda: machine.ready("machines") == (count, count), SECONDS)


def test_versions_change_under_load_without_a_failed_request(machine: Machine) -> None:
    first = machine.status("machines")["release"]
    with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=5, timeout=60, posts=False) as load:
        tiny.version(machine, "2")
        deploy(machine)
        assert tiny.ask(machine, HOST) == "version 2"
        machine.cli("rollback", "machines")
        ready(machine, 1)
        assert tiny.ask(machine, HOST) == "version 1"
        result = load.stop()
    print(result)
    assert not result.failures, result.failures[:5]
    assert machine.status("machines")["release"] == first
    tried = get(machine, "/cgi-bin/write").decode()
    assert "tried" in tried
    assert "written" not in tried, tried
    assert "remounted" not in tried, tried
    machine.cli("scale", "machines", "web=3")
    ready(machine, 3)
    assert len(disks(machine)) == 2, "one disk for each version, whatever the number of machines"
    machine.power_off()
    machine.start()
    ready(machine, 3)
    assert tiny.ask(machine, HOST) == "version 1"


def test_a_flipped_byte_stops_the_machine_and_the_record_says_why(machine: Machine) -> None:
    content = (machine.app / "www" / "big").read_bytes()
    (raw,) = disks(machine)
    at = raw.read_bytes().find(content[700_000:700_064])
    assert at > 0, "what cannot be compressed is on the disk as it is"
    assert machine.cli("verify", "machines").returncode == 0
    with raw.open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[700_000] ^ 1]))
    with suppress(OSError, AssertionError, http.client.HTTPException):
        get(machine, "/big")
    machine.until("the record says why", lambda: "Kernel panic - not syncing: dm-verity" in told(machine), SECONDS)
    print(told(machine))
    assert "of its disk was" in told(machine), "the write itself was not noticed"

    def whole() -> bool:
        with suppress(OSError, AssertionError, http.client.HTTPException):
            return get(machine, "/big") == content
        return False

    machine.until("another machine serves from a disk that was made anew", whole, SECONDS)


def disks(machine: Machine) -> list[Path]:
    """Return the disks that machines boot from."""
    found = (machine.installation.cache / "disks").glob("*/disk.raw")
    return [path for path in found if not path.parent.name.startswith(".")]


def told(machine: Machine) -> str:
    """Return what the record has of ends and of drift."""
    path = machine.installation.state / "ledger.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        leaves = [bytes(row[0]).decode() for row in ledger.execute("SELECT leaf FROM event ORDER BY idx")]
    return "\n".join(leaf for leaf in leaves if "instance.exited" in leaf or "drift.found" in leaf)
