"""Witnesses as processes: a controller whose machine is put back to an older day, a witness killed at each write."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stelae.witness.witness import Witness, init
from tests.real import tiny
from tests.real.machine import Machine
from tests.unit.witness.conftest import SIGNER, Log

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

WRITES = ("pwrite64", "fdatasync", "fsync", "write", "ftruncate", "unlink")
"""What a witness does to its memory and says to others; reads change nothing."""


@contextmanager
def answering(folder: Path) -> Iterator[str]:
    """A witness as a process, at an address of its own."""
    words = [sys.executable, "-m", "stelae.cli", "witness", "run", str(folder), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = re.search(r"answers at (http://\S+)", process.stdout.readline())
            assert said is not None
            yield said[1]
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(seed=False) as made:
        yield made.start()


def test_a_machine_that_was_put_back_is_found_by_its_witness(machine: Machine) -> None:
    """T4 with everything: the record, the published files and the key, as they were yesterday."""
    tiny.make(machine)
    place = machine.folder / "witness"
    key = machine.cli("witness", "init", place, "witness.example/ana").stdout.strip()
    log = machine.cli("audit", "key").stdout.strip()
    machine.cli("witness", "trust", place, log)
    policy = machine.folder / "policy"
    with answering(place) as address:
        policy.write_text(f"log {log}\nwitness ana {key} {address}\nquorum ana\n")
        machine.cli("audit", "policy", "set", policy)
        machine.cli("deploy", "testing")
        receipt = machine.folder / "d-1.tlog-proof"
        receipt.write_text(machine.cli("audit", "receipt", "d-1", "--witnessed").stdout)
        found = machine.json("audit", "check", receipt, "--policy", policy)
        assert (found["event"]["body"]["deployment"], list(found["cosigned"])) == ("d-1", ["ana"])
        assert "cosigned by ana" in machine.cli("audit", "verify", "--policy", policy).stdout
        kept = machine.folder / "kept"
        kept.write_bytes((machine.installation.log / "checkpoint").read_bytes())

        machine.stop()
        older = machine.folder / "yesterday"
        shutil.copytree(machine.installation.state, older, symlinks=True)
        machine.start()
        tiny.version(machine, "2")
        machine.cli("deploy", "testing")
        machine.cli("audit", "receipt", "d-2", "--witnessed")
        machine.cli("audit", "consistency", kept, "--log", machine.installation.log, "--policy", policy, "--keep")
        [before] = machine.json("witness", "show", place)["logs"]

        machine.power_off()
        for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm", "log"):
            old, new = older / name, machine.installation.state / name
            shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)
            if old.exists():
                shutil.move(old, new)
        machine.start()
        said = f"it has seen {before['size']} events, this record has "
        machine.until("the witness has been asked", lambda: said in machine.cli("status").stdout)
        ran = machine.cli("audit", "verify", check=False)
        assert (ran.returncode, said in ran.stdout) == (1, True), "by itself the record is as good as any"
        assert f"witness ana refused the log: {said}" in machine.cli("history").stdout
        ran = machine.cli("audit", "consistency", kept, "--log", machine.installation.log, "--key", log, check=False)
        assert (ran.returncode, "it was rolled back" in ran.stderr) == (1, True)
        last = int(machine.json("status")["record"]["size"]) - 1
        ran = machine.cli("audit", "receipt", last, "--witnessed", check=False)
        assert (ran.returncode, said in ran.stderr) == (1, True)
        assert machine.json("witness", "show", place)["logs"] == [before], "nothing of it was cosigned"
        assert tiny.ask(machine).startswith("version ")


def asked(folder: Path, sizes: tuple[int, ...], log: Log) -> list[str]:
    old, names = 0, []
    for size in sizes:
        path = folder / f"request-{size}"
        path.write_bytes(log.asked(old, size))
        names.append(str(path))
        old = size
    return names


def test_a_witness_that_is_killed_at_each_write_forgets_no_cosignature(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    log, other = Log(40), Log(40, seed="x", fork=1)
    requests = asked(tmp_path, (5, 12), log)
    init(tmp_path / "new", "witness.example/ana")
    first = Witness(tmp_path / "new")
    first.trust(SIGNER.verifier)
    first.close()

    def run(number: int, fault: str) -> tuple[list[int], Path, bool]:
        folder = Path(shutil.copytree(tmp_path / "new", tmp_path / f"w{number}"))
        words = [sys.executable, "-m", "tests.real.witness_child", str(folder), *requests]
        inject = f"inject={','.join(WRITES)}:{fault}:when={number}"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={','.join(WRITES)}", "-e", inject, *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False,
                             env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
        return [int(line) for line in ran.stdout.split() if line.isdecimal()], folder, ran.returncode == 0

    points = 0
    for number in range(1, 200):
        told, folder, whole = run(number, "signal=KILL")
        witness = Witness(folder)
        ([seen], refused) = witness.known()
        assert seen.size >= max(told, default=0), f"at write {number} a cosignature was given and forgotten"
        assert refused == []
        if seen.size:
            assert witness.add_checkpoint(other.asked(seen.size, 40)).status == 422
            assert witness.add_checkpoint(other.asked(seen.size, seen.size)).status == 422
        assert witness.add_checkpoint(log.asked(seen.size, 40)).status == 200
        witness.close()
        shutil.rmtree(folder)
        points += 1
        if whole:
            assert told == [5, 12]
            break
    assert 8 < points < 199


def test_a_witness_ends_and_begins_again_where_it_was(tmp_path: Path) -> None:
    init(tmp_path / "w", "witness.example/ana")
    witness = Witness(tmp_path / "w")
    witness.trust(SIGNER.verifier)
    witness.close()
    log, old = Log(40), 0
    for size in (3, 17, 40):
        with answering(tmp_path / "w") as address:
            request = urllib.request.Request(f"{address}/add-checkpoint", log.asked(old, size), method="POST")
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 200
        old = size
    begun = time.monotonic()
    words = [sys.executable, "-m", "stelae.cli", "witness", "run", str(tmp_path / "w"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    process.stdout.close()
    assert time.monotonic() - begun < 10
