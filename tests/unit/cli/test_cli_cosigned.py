"""Cosignatures and older checkpoints as a person meets them: what is there, what is missing, what was rewritten."""

from __future__ import annotations

import base64
import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.domain.event import Scaled
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import COSIGNATURE, Signer
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.testing.log import COSIGNED, POLICY, RECEIPT, SIGNER, WITNESS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
VKEY = SIGNER.verifier.vkey
OTHER = Signer("witness.example/bo", b"b" * 32, COSIGNATURE)
TWO = POLICY.replace("quorum ana\n", f"witness bo {OTHER.verifier.vkey}\ngroup both all ana bo\nquorum both\n")


@pytest.fixture
def stelae(stelae: Stelae) -> Stelae:
    """The command line, with words that may be paths."""
    return lambda *words: stelae(*map(str, words))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    folder.mkdir()
    head, _, checkpoint = RECEIPT.partition("\n\n")
    texts = {
        "policy": POLICY, "two": TWO, "checkpoint": COSIGNED, "receipt": f"{head}\n\n{COSIGNED}", "bare": RECEIPT,
        "bare-checkpoint": checkpoint, "nobody": "quorum none\n", "wrong": "quorum me\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize("name", ["receipt", "checkpoint"])
def test_a_quorum_is_checked_offline(stelae: Stelae, service: FakeService, files: Path, name: str) -> None:
    service.calls.clear()
    said = plain(stelae("audit", "check", files / name, "--policy", files / "policy"))
    assert "cosigned by ana 2026-11-30 12:00:00, up to event 0" in said
    found = document(stelae("audit", "check", files / name, "--policy", files / "policy", "--json"))
    assert found["cosigned"] == {"ana": 1_796_040_000_000_000}
    ran = stelae("audit", "check", files / name, "--policy", files / "two")
    assert (ran.code, ran.out) == (1, "")
    assert "of 1 events: the witness bo is missing; there are ana" in ran.err
    assert "the policy wants no" in plain(
        stelae("audit", "check", files / name, "--policy", files / "nobody", "--key", VKEY)
    )
    assert service.calls == []


@pytest.mark.parametrize("name", ["bare", "bare-checkpoint"])
def test_what_nobody_cosigned_is_said(stelae: Stelae, files: Path, name: str) -> None:
    assert plain(stelae("audit", "check", files / name, "--key", VKEY))
    ran = stelae("audit", "check", files / name, "--policy", files / "policy")
    assert (ran.code, "the witness ana is missing\n" in ran.err) == (1, True)


def test_a_policy_that_is_none_or_of_another_log_is_said(stelae: Stelae, files: Path) -> None:
    ran = stelae("audit", "check", files / "receipt", "--policy", files / "wrong")
    assert (ran.code, "wrong, line 1: no line above defines me" in ran.err) == (2, True)
    ran = stelae("audit", "check", files / "receipt", "--policy", files / "nobody")
    assert (ran.code, "checked with the log's key" in ran.err) == (2, True)
    other = Signer("example.com/other", bytes(32))
    (files / "other").write_text(f"log {other.verifier.vkey}\nquorum none\n")
    ran = stelae("audit", "check", files / "receipt", "--policy", files / "other")
    assert (ran.code, "the policy is about example.com/other" in ran.err) == (1, True)
    forged = COSIGNED.replace("\n1\n", "\n2\n")
    (files / "forged").write_text(forged, "utf-8")
    ran = stelae("audit", "check", files / "forged", "--policy", files / "policy")
    assert (ran.code, "forged" in ran.err) == (1, True)


def test_verify_checks_the_quorum_by_a_policy_of_ones_own(stelae: Stelae, service: FakeService, files: Path) -> None:
    assert "cosigned by ana" in plain(stelae("audit", "verify", "--policy", files / "policy"))
    ran = stelae("audit", "verify", "--policy", files / "two")
    assert (ran.code, "the witness bo is missing" in ran.err) == (1, True)
    service.answers["verify_ledger"] = {**service.answers["verify_ledger"], "witnessed": ""}
    ran = stelae("audit", "verify", "--policy", files / "policy")
    assert (ran.code, "no checkpoint was witnessed: the witness ana is missing" in ran.err) == (1, True)


def test_a_witness_that_refuses_is_shown_everywhere(stelae: Stelae, service: FakeService) -> None:
    problem = "it has seen 9 events, this record has 7: it was rolled back or rewritten"
    answer = service.answers["verify_ledger"]
    row = {**answer["witnessing"]["witnesses"][0], "refused": True, "problem": problem}
    witnessing = {**answer["witnessing"], "witnesses": [row], "missing": "the witness ana"}
    service.answers["verify_ledger"] = {**answer, "witnessing": witnessing}
    ran = stelae("audit", "verify")
    assert (ran.code, f"witness ana REFUSES the log: {problem}" in ran.out) == (1, True)
    assert "lacks the witness ana" in ran.out
    service.answers["witness_policy"] = {**service.answers["witness_policy"], "witnessing": witnessing}
    assert stelae("audit", "policy", "show").code == 1
    refusal = {"witness": "ana", "seen": 9, "size": 7, "at": 5, "problem": problem}
    service.answers["status"]["refusals"].append(refusal)
    assert f"witness ana refuses it: {problem}" in plain(stelae("status"))


def test_a_policy_is_set_and_shown(stelae: Stelae, service: FakeService, files: Path) -> None:
    assert plain(stelae("audit", "policy", "set", files / "policy")).startswith("  policy ")
    assert asked(service, "set_witness_policy") == ("root", POLICY)
    shown = plain(stelae("audit", "policy", "show"))
    assert ("quorum ana" in shown, "witness ana cosigned 1 events" in shown) == (True, True)
    service.calls.clear()
    ran = stelae("audit", "policy", "set", files / "wrong")
    assert (ran.code, "line 1" in ran.err, service.calls) == (2, True, [])
    (files / "empty").write_text("\n")
    stelae("audit", "policy", "set", files / "empty")
    assert asked(service, "set_witness_policy") == ("root", "")


def test_a_receipt_may_be_asked_for_with_cosignatures(stelae: Stelae, service: FakeService) -> None:
    stelae("audit", "receipt", "d-7", "--witnessed")
    assert asked(service, "receipt") == ("d-7", True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published log of 700 events, with its checkpoints of 300 and 600, and one of another history of 600."""
    folder = tmp_path_factory.mktemp("log")
    ledger = Ledger.open(folder / "ledger.db", clock=lambda: 5)
    publisher = Publisher(ledger, Published(folder / "log"), lambda _: SIGNER)
    for size in (300, 600, 700):
        count = size - ledger.size
        ledger.append([Draft(event=Scaled(process="web", count=number), actor="ana") for number in range(count)])
        (folder / str(size)).write_bytes(publisher.signed()[1])
    (folder / "receipt").write_bytes(publisher.receipt(3).text)
    ledger.close()
    (folder / "forged").write_bytes(SIGNER.sign(Checkpoint(SIGNER.name, 600, b"x" * 32).text))
    (folder / "more").write_bytes(SIGNER.sign(Checkpoint(SIGNER.name, 900, b"x" * 32).text))
    (folder / "fork").write_bytes(SIGNER.sign(Checkpoint(SIGNER.name, 700, b"x" * 32).text))
    return folder


@pytest.fixture(scope="module")
def address(log: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(log / "log"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_a_log_that_grew_goes_on_from_what_was_kept(
    stelae: Stelae, service: FakeService, log: Path, address: str, tmp_path: Path
) -> None:
    service.calls.clear()
    for place in (address, log / "log"):
        for name, old in (("300", 300), ("600", 600), ("700", 700), ("receipt", 700)):
            said = plain(stelae("audit", "consistency", log / name, "--log", place, "--key", VKEY))
            assert f"has 700 events now, and the first {old} are those of" in said
    kept = shutil.copy(log / "300", tmp_path / "kept")
    stelae("audit", "consistency", kept, "--log", address, "--key", VKEY, "--keep")
    assert (tmp_path / "kept").read_bytes() == (log / "log" / "checkpoint").read_bytes()
    (tmp_path / "policy").write_text(POLICY)
    ran = stelae("audit", "consistency", log / "300", "--log", address, "--policy", tmp_path / "policy")
    assert (ran.code, "not enough witnesses" in ran.err) == (1, True)
    assert service.calls == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("forged", "one before event 600 is another, it was rewritten"),
        ("more", "has 700 events now, and had 900: it was rolled back, event 700 and those after it are missing"),
        ("fork", "two different histories of 700 events"),
    ],
)
def test_a_log_that_does_not_go_on_is_named(
    stelae: Stelae, log: Path, address: str, tmp_path: Path, name: str, said: str
) -> None:
    kept = Path(shutil.copy(log / name, tmp_path / "kept"))
    ran = stelae("audit", "consistency", kept, "--log", address, "--key", VKEY, "--keep")
    assert (ran.code, said in ran.err) == (1, True)
    assert kept.read_bytes() == (log / name).read_bytes()


def test_the_controller_is_asked_where_no_place_is_given(stelae: Stelae, service: FakeService, log: Path) -> None:
    newest = (log / "700").read_text("utf-8")
    ledger = Ledger.open(log / "ledger.db", clock=lambda: 5)
    hashes = Publisher(ledger, Published(log / "log"), lambda _: SIGNER).growth(300, 700)
    ledger.close()
    answer = {"size": 700, "origin": SIGNER.name, "checkpoint": newest}
    service.answers["consistency"] = {**answer, "hashes": [base64.b64encode(item).decode() for item in hashes]}
    assert "has 700 events now, and the first 300" in plain(stelae("audit", "consistency", log / "300"))
    assert asked(service, "consistency") == (300,)
    ran = stelae("audit", "consistency", log / "forged")
    assert (ran.code, "it was rewritten" in ran.err) == (1, True)
    service.answers["consistency"] = {**answer, "hashes": []}
    assert stelae("audit", "consistency", log / "300").code == 1


def test_a_place_that_is_none_is_said(stelae: Stelae, log: Path, address: str, tmp_path: Path) -> None:
    shutil.copytree(log / "log", tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "tile" / "0")
    (tmp_path / "none").mkdir()
    for place, code, said in (
        (tmp_path / "nowhere", 2, "no folder"), (tmp_path / "none", 1, "no log is published there"),
        (tmp_path / "part", 1, "is missing"), ("http://127.0.0.1:1", 5, "cannot be read"),
        (address + "x", 1, "no log"),
    ):  # fmt: skip
        ran = stelae("audit", "consistency", log / "300", "--log", place, "--key", VKEY)
        assert (ran.code, said in ran.err) == (code, True), ran.err
    assert WITNESS.verifier.vkey in POLICY
