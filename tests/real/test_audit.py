"""The log of a real controller: a receipt, the check, a controller that is killed, a record that was put back."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.note import parse_vkey
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def checkpoint(machine: Machine, key: str) -> Checkpoint:
    """What is published now."""
    return open_checkpoint((machine.installation.log / "checkpoint").read_bytes(), parse_vkey(key))


def recorded(machine: Machine) -> int:
    """How many events there are."""
    return int(machine.json("status")["record"]["size"])


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(seed=False) as made:
        yield made.start()


def test_a_deployment_has_a_receipt_and_an_older_record_is_noticed(machine: Machine) -> None:
    tiny.make(machine)
    machine.cli("deploy", "testing")
    key = machine.json("audit", "key")["key"]
    assert stat.S_IMODE((machine.installation.keys / "log").stat().st_mode) == 0o600
    receipt = machine.folder / "d-1.tlog-proof"
    receipt.write_text(machine.cli("audit", "receipt", "d-1").stdout)

    machine.until("all is published", lambda: checkpoint(machine, key).size == recorded(machine))
    machine.stop()
    older = {path.name: path.read_bytes() for path in machine.installation.state.glob("ledger.db*")}

    # Without a controller: the receipt and the key are enough.
    found = machine.json("audit", "check", receipt, "--key", key)
    assert found["event"]["kind"] == "deployment.requested"
    assert found["event"]["body"]["deployment"] == "d-1"

    machine.start()
    tiny.version(machine, "2")
    machine.cli("deploy", "testing")
    machine.kill()
    before = checkpoint(machine, key)
    machine.start()
    assert machine.json("audit", "key")["key"] == key
    checked = machine.json("audit", "verify")
    assert checked["published"] >= before.size
    again = machine.json("audit", "check", receipt, "--key", key)
    assert again["event"] == found["event"]

    machine.power_off()  # or the machine itself would remember that another controller was there
    last = checkpoint(machine, key)
    for path in machine.installation.state.glob("ledger.db*"):
        path.unlink()
    for name, data in older.items():
        (machine.installation.state / name).write_bytes(data)
    machine.start()
    ran = machine.cli("audit", "verify", check=False)
    assert ran.returncode == 1
    assert f"but a checkpoint of {last.size} was signed: event" in ran.stderr
    assert machine.cli("audit", "receipt", "0", check=False).returncode == 1
    assert checkpoint(machine, key) == last, "nothing that contradicts it was signed"
    machine.at_rest()  # everything was powered off
    assert tiny.ask(machine).startswith("version ")
