"""Witnesses and their clients that are not ours meet ours: one made with Go's implementation of logs, one in Python.

Each is a witness of our log, and asks our witness for cosignatures; nothing of Stelae is in them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stelae.controller.witnesses import Heard, Witnesses, _Known
from stelae.domain.event import Scaled
from stelae.ledger import policy
from stelae.ledger.note import COSIGNATURE, Signer, parse_note, parse_vkey
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.witness.witness import Witness, init
from tests.real import golang
from tests.real.keeping import CACHE
from tests.real.test_witness import answering

pytestmark = [pytest.mark.real, pytest.mark.network, pytest.mark.timeout(300)]

OTHERS = ("aics-witness==0.1.0", "aics-tlog==0.2.1")
SIGNER = Signer("example.com/other/log", bytes(range(32)))


class Log:
    """A published log on the disk."""

    def __init__(self, folder: Path, process: str = "web") -> None:
        folder.mkdir()
        self.folder = folder
        self.process = process
        self.ledger = Ledger.open(folder / "ledger.db", clock=lambda: 5)
        self.publisher = Publisher(self.ledger, Published(folder / "log"), lambda _: SIGNER)

    def grow(self, size: int) -> None:
        numbers = range(self.ledger.size, size)
        drafts = [Draft(event=Scaled(process=self.process, count=number), actor="ana") for number in numbers]
        self.ledger.append(drafts)
        self.publisher.publish()

    def asked(self, vkey: str, url: str, known: _Known) -> Heard:
        """Ask the witness as a controller does, and publish what it says."""
        witness = policy.Witness("other", parse_vkey(vkey, COSIGNATURE), url)
        checkpoint, signed = self.publisher.signed()
        note = parse_note(signed)
        signed = note.text.encode() + b"\n" + note.signatures[0].line
        witnesses = Witnesses(None, self.publisher)  # type: ignore[arg-type]  # no record: it is not asked for
        heard = witnesses._asked(witness, known, checkpoint, signed)
        if heard.line:
            self.publisher.set_witnessed(checkpoint, signed + heard.line)
        return heard


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "one")
    with closing(made.ledger):
        yield made


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "two", "worker")
    with closing(made.ledger):
        yield made


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of ``tests/fixtures/cosigned``."""
    return golang.built("cosigned", tmp_path_factory.mktemp("cosigned"))


@pytest.fixture(scope="module")
def others() -> Path:
    """Another implementation, fetched once; it is never installed."""
    place = CACHE / "-".join(OTHERS).replace("==", "-")
    if not place.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            words = [
                "install",
                "-q",
                "--no-deps",
                "--ignore-requires-python",
                "--no-compile",
                "--only-binary",
                ":all:",
            ]
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words, "--target"]
            subprocess.run([*command, f"{folder}/whole", *OTHERS], check=True)
            if not place.is_dir():
                Path(folder, "whole").rename(place)
    return place


@contextmanager
def ours(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Our witness of the log: its address and its key."""
    init(tmp_path / "w", "witness.example/ana")
    with closing(Witness(tmp_path / "w")) as witness:
        witness.trust(SIGNER.verifier)
        vkey = witness.verifier.vkey
    with answering(tmp_path / "w") as address:
        yield address, vkey


@contextmanager
def serving(command: list[str | Path]) -> Iterator[tuple[str, str]]:
    """A witness as a process that prints its address and its key."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address, vkey = process.stdout.readline().split()
            yield address, vkey
        finally:
            process.kill()


def followed(log: Log, forked: Log, address: str, vkey: str) -> None:
    """The witness at *address* cosigns a log that grows, and neither another history nor an older one."""
    known = _Known()
    for size in (1, 7, 256, 300, 700):
        log.grow(size)
        heard = log.asked(vkey, address, known)
        assert (heard.size, heard.problem) == (size, "")
    assert log.asked(vkey, address, _Known()).size == 700, "a controller that starts anew is told where it is"
    forked.grow(600)
    heard = forked.asked(vkey, address, _Known())
    assert (heard.refused, heard.seen) == (True, 700)
    assert "it has seen 700 events, this record has 600" in heard.problem
    forked.grow(800)
    heard = forked.asked(vkey, address, _Known())
    assert (heard.refused, "one before event 700 was rewritten" in heard.problem) == (True, True)


def test_go_verifies_what_our_witness_cosigned(log: Log, program: Path, tmp_path: Path) -> None:
    with ours(tmp_path) as (address, vkey):
        log.grow(300)
        assert log.asked(vkey, address, _Known()).problem == ""
    key, file = SIGNER.verifier.vkey, log.folder / "log" / "checkpoint.witnessed"
    ran = subprocess.run([program, "check", file, key, vkey], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("300 leaves, signed and cosigned\n", "")
    whole = file.read_bytes()
    start = whole.index(b"\n\n") + 2
    text = len(whole[start:].decode()) // 2
    for place in (0, 20, start + 60, start + text + 80):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        ran = subprocess.run([program, "check", file, key, vkey], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (1, ""), place


def test_go_asks_our_witness(log: Log, forked: Log, program: Path, tmp_path: Path) -> None:
    def asked(which: Log, old: int) -> str:
        key = SIGNER.verifier.vkey
        words = [program, "ask", address, which.folder / "log", key, vkey, str(old)]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    with ours(tmp_path) as (address, vkey):
        old = 0
        for size in (5, 256, 700):
            log.grow(size)
            assert asked(log, old) == f"{size} leaves are cosigned\n"
            old = size
        assert asked(log, 5) == "409 text/x.tlog.size 700\n"
        forked.grow(900)
        assert asked(forked, 700).startswith("422 ")


def test_a_witness_made_with_go_follows_our_log(log: Log, forked: Log, program: Path) -> None:
    with serving([program, "serve", "go.example/w", SIGNER.verifier.vkey]) as (address, vkey):
        followed(log, forked, address, vkey)


ASK = """
import sys
from pathlib import Path
from aics_tlog.tiles import FileSystemTileReader, consistency_proof_from_tiles
from aics_witness import submit_checkpoint
url, folder, vkey = sys.argv[1:]
reader = FileSystemTileReader(folder)
def proof(old, size):
    return consistency_proof_from_tiles(reader, old, size)
print(submit_checkpoint(url, Path(folder, "checkpoint").read_bytes(), proof, witness_vkey=vkey), end="")
"""
"""A program that has a published log cosigned, by the other implementation."""


def test_another_implementation_asks_our_witness(log: Log, forked: Log, others: Path, tmp_path: Path) -> None:
    def asked(which: Log) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", ASK, address, str(which.folder / "log"), vkey]
        environment = {**os.environ, "PYTHONPATH": str(others), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)

    with ours(tmp_path) as (address, vkey):
        for size in (5, 256, 700):
            log.grow(size)
            ran = asked(log)
            assert ran.stdout.startswith("— witness.example/ana "), ran.stderr
        forked.grow(600)
        assert "WitnessAhead" in asked(forked).stderr
        forked.grow(900)
        ran = asked(forked)
        assert (ran.returncode, "WitnessRejected" in ran.stderr, "422" in ran.stderr) == (1, True, True), ran.stderr


def test_another_implementation_follows_our_log(log: Log, forked: Log, others: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(others), "PYTHONDONTWRITEBYTECODE": "1"}
    program, config = [sys.executable, "-m", "aics_witness"], ["--config", str(tmp_path / "w.json")]

    def run(verb: str, *more: str) -> str:
        ran = subprocess.run(
            [*program, verb, *config, *more], capture_output=True, text=True, check=True, env=environment
        )
        return ran.stdout.strip()

    vkey = run("init", "--name", "w.example/x", "--listen", "127.0.0.1:0")
    run("add-log", "--origin", SIGNER.name, "--vkey", SIGNER.verifier.vkey)
    with subprocess.Popen(
        [*program, "serve", *config], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            found = next(match for line in process.stderr if (match := re.search(r"listening on (http://\S+)", line)))
            followed(log, forked, found[1], vkey)
        finally:
            process.kill()
