"""A published log is checked by Go's own implementation of logs (``golang.org/x/mod/sumdb``), which is not ours."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.domain.event import Scaled
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.note import Signer
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.system.clock import now
from tests.real import golang

pytestmark = [pytest.mark.real, pytest.mark.network]

SIGNER = Signer("example.com/go/log", bytes(range(32)))
STEPS = (1, 2, 253, 300, 5_000, 15_000)
SIZE = sum(STEPS)


def event(number: int) -> Scaled:
    """Some are too long for a leaf, which then has the digest of what is held beside it."""
    return Scaled(process="web", count=number, reason="x" * 70_000 if number % 5_000 == 4_999 else "")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of ``tests/fixtures/sumdb``."""
    return golang.built("sumdb", tmp_path_factory.mktemp("sumdb"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``log``, ``old`` and ``receipts``, as the program wants them."""
    folder = tmp_path_factory.mktemp("log")
    ledger = Ledger.open(folder / "ledger.db", clock=now)
    publisher = Publisher(ledger, Published(folder / "log"), lambda _: SIGNER)
    (folder / "old").mkdir()
    (folder / "receipts").mkdir()
    for step in STEPS:
        ledger.append([Draft(event=event(number), actor="ana") for number in range(step)])
        size = publisher.publish().size
        shutil.copy(folder / "log" / "checkpoint", folder / "old" / str(size))
        (folder / "receipts" / f"first-{size}").write_bytes(publisher.receipt(size - 1).text)
    for index in (0, 1, 255, 256, 5_555, SIZE - 2):
        (folder / "receipts" / str(index)).write_bytes(publisher.receipt(index).text)
    for path in (folder / "old").iterdir():
        old = open_checkpoint(path.read_bytes(), SIGNER.verifier)
        proof = merkle.consistency_proof(old.size, SIZE, ledger.hashes)
        path.with_name(path.name + ".proof").write_text("\n".join(base64.b64encode(item).decode() for item in proof))
    ledger.verify()
    ledger.close()
    assert any((folder / "ledger.held").iterdir())
    return folder


def checked(program: Path, log: Path, key: str = SIGNER.verifier.vkey) -> subprocess.CompletedProcess[str]:
    words = [program, log / "log", key, log / "old", log / "receipts"]
    return subprocess.run(words, capture_output=True, text=True, env={}, cwd="/")


def test_go_checks_signature_tiles_leaves_growth_and_receipts(program: Path, log: Path) -> None:
    ran = checked(program, log)
    assert (ran.stdout, ran.stderr) == (f"{SIZE} leaves, {len(STEPS)} checkpoints, {len(STEPS) + 6} receipts\n", "")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("log/checkpoint", "signature"), ("log/tile/0/000", "inconsistent"), ("log/tile/0/080.p/76", "inconsistent"),
        ("log/tile/1/000.p/80", "inconsistent"), ("log/tile/entries/007", "is another"),
        ("old/556", "signature"), ("old/556.proof", "invalid"), ("receipts/5555", "invalid"),
    ],
)  # fmt: skip
def test_go_refuses_each_of_them_when_it_was_changed(
    program: Path, log: Path, tmp_path: Path, name: str, told: str
) -> None:
    shutil.copytree(log, tmp_path / "copy")
    path = tmp_path / "copy" / name
    data = path.read_bytes()
    if told == "invalid":  # another hash, written as it should be
        start = data.index(b"=\n") - 43
        data = data[:start] + base64.b64encode(bytes(32)) + data[start + 44 :]
    else:
        data = data[:20] + bytes([data[20] ^ 1]) + data[21:]
    path.write_bytes(data)
    ran = checked(program, tmp_path / "copy")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert told in ran.stderr


def test_go_refuses_another_key(program: Path, log: Path) -> None:
    ran = checked(program, log, Signer("example.com/go/log", bytes(32)).verifier.vkey)
    assert (ran.returncode, ran.stdout) == (1, "")
