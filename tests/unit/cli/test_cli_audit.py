"""The audit as a person meets it; receipts are checked without a controller."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.controller.recovery.export import log_members
from stelae.core.merkle import leaf_hash
from stelae.domain.errors import Failed
from stelae.domain.event import Scaled
from stelae.images.pack import packed
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.proof import Receipt
from stelae.ledger.store import Draft, Ledger
from stelae.testing.answers import ANSWERS
from stelae.testing.log import EXPORTED, RECEIPT, SIGNER
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
VKEY = SIGNER.verifier.vkey


def test_verify_says_what_was_checked(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("audit", "verify")) == snapshot("""\
  204 events are as they were recorded, root abababababababababababababababababababababababababababababababab
  the published log example.com/stelae/1f2e3d4c matches them up to 203, and its key signed it
  witness ana cosigned 1 events 2026-11-30 12:00:00
""")
    assert document(stelae("audit", "verify", "--json")) == ANSWERS["verify_ledger"]
    service.answers["verify_ledger"] = Failed("the record is damaged: event 7 is missing", hint="keep the files")
    ran = stelae("audit", "verify")
    assert (ran.code, ran.err) == (1, "the record is damaged: event 7 is missing\n  keep the files\n")


def test_the_key_is_one_line(stelae: Stelae) -> None:
    assert plain(stelae("audit", "key")) == VKEY + "\n"
    assert document(stelae("audit", "key", "--json"))["key"] == VKEY


def test_a_receipt_is_printed_and_checked_alone(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    printed = plain(stelae("audit", "receipt", "d-7"))
    assert printed == RECEIPT
    assert asked(service, "receipt") == ("d-7", False)
    file = tmp_path / "d-7.tlog-proof"
    file.write_text(printed, "utf-8")
    service.calls.clear()
    assert plain(stelae("audit", "check", str(file), "--key", VKEY)) == snapshot("""\
  event 0 of the log example.com/stelae/1f2e3d4c (size 1)
  environment.scaled guestbook/production, by ana, 2026-11-30 12:00:00
    count  3
    process  web
""")
    found = document(stelae("audit", "check", str(file), "--key", f" {VKEY}\n", "--json"))
    assert (found["index"], found["size"], found["event"]["actor"]) == (0, 1, "ana")
    assert service.calls == []


def test_a_receipt_is_read_from_standard_input(stelae: Stelae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RECEIPT.encode())))
    assert plain(stelae("audit", "check", "-", "--key", VKEY)).startswith("  event 0 ")


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("index 0", "index 1", 1, "proves nothing"), ("\n1\n", "\n2\n", 1, "it was changed, or is forged"),
        ("extra ", "extra AA", 2, "not a receipt"), ("tlog-proof@v1", "tlog-proof@v9", 2, "not a receipt"),
        ("stelae/", "stelas/", 1, "not signed by the key"),
    ],
)  # fmt: skip
def test_a_changed_receipt_is_refused(
    stelae: Stelae, tmp_path: Path, old: str, new: str, code: int, said: str
) -> None:
    file = tmp_path / "receipt"
    file.write_text(RECEIPT.replace(old, new), "utf-8")
    ran = stelae("audit", "check", str(file), "--key", VKEY)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_a_key_or_a_file_that_is_none_is_said(stelae: Stelae, tmp_path: Path) -> None:
    ran = stelae("audit", "check", "nothing-here", "--key", VKEY)
    assert (ran.code, "nothing-here" in ran.err) == (2, True)
    ran = stelae("audit", "check", str(tmp_path), "--key", VKEY)
    assert ran.code == 2
    ran = stelae("audit", "check", "nothing-here", "--key", "k-123")
    assert (ran.code, "not a verifier key" in ran.err) == (2, True)


@pytest.mark.parametrize(
    "leaf", [b"", b"[]", b"{}", b'{"kind":"x","actor":"a","at":"1","body":{}}', b"[" * 20_000, b"\xff"]
)
def test_a_leaf_that_is_no_event_is_no_traceback(stelae: Stelae, tmp_path: Path, leaf: bytes) -> None:
    checkpoint = SIGNER.sign(Checkpoint(SIGNER.name, 1, leaf_hash(leaf)).text)
    (tmp_path / "receipt").write_bytes(Receipt(0, leaf, (), checkpoint).text)
    ran = stelae("audit", "check", str(tmp_path / "receipt"), "--key", VKEY)
    assert (ran.code, ran.err) == (1, "what is proven is no event of Stelae\n")


def test_what_an_event_says_moves_no_cursor(stelae: Stelae, tmp_path: Path) -> None:
    leaf = b'{"kind":"x","actor":"\\u001b[2J","at":1,"body":{"a":"\\u001b[2J"}}'
    checkpoint = SIGNER.sign(Checkpoint(SIGNER.name, 1, leaf_hash(leaf)).text)
    (tmp_path / "receipt").write_bytes(Receipt(0, leaf, (), checkpoint).text)
    assert "\\x1b[2J" in plain(stelae("audit", "check", str(tmp_path / "receipt"), "--key", VKEY))


def test_an_export_is_written_whole_or_not_at_all(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    file = tmp_path / "log.tar"
    assert "check it anywhere: stelae audit check" in plain(stelae("audit", "export", str(file), "--evidence"))
    assert asked(service, "export_log") == (True,)
    assert file.read_bytes() == b"what a tar of the log begins with"
    again = stelae("audit", "export", str(file))
    assert (again.code, "is there already" in again.err) == (2, True)
    service.answers["export_log"] = [EXPORTED[0], {"result": {**EXPORTED[1]["result"], "sha256": "0" * 64}}]
    other = tmp_path / "other.tar"
    assert (stelae("audit", "export", str(other)).code, other.exists()) == (1, False)
    service.answers["export_log"] = Failed("the record is not what was signed")
    assert (stelae("audit", "export", str(other)).code, list(tmp_path.glob("*other*"))) == (1, [])
    nowhere = stelae("audit", "export", str(tmp_path / "no" / "log.tar"))
    assert (nowhere.code, "cannot be written" in nowhere.err) == (1, True)


def test_an_exported_log_is_checked_alone(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", clock=lambda: 1)
    ledger.append([Draft(event=Scaled(process="web", count=3), actor="ana")])
    signed = SIGNER.sign(Checkpoint(SIGNER.name, 1, bytes.fromhex(ledger.root)).text)
    file = tmp_path / "log.tar"
    file.write_bytes(b"".join(packed(log_members(ledger, signed, SIGNER.verifier))))
    ledger.close()
    said = f"  the 1 events of {SIGNER.name} are those that its key has signed\n"
    assert plain(stelae("audit", "check", str(file), "--key", VKEY)) == said
    assert "compare it with the one that you were given" in plain(stelae("audit", "check", str(file)))
    assert document(stelae("audit", "check", str(file), "--json"))["own_key"] is True
    file.write_bytes(file.read_bytes().replace(b'"count":3', b'"count":4'))
    ran = stelae("audit", "check", str(file), "--key", VKEY)
    assert (ran.code, "event 0 is not what was published" in ran.err) == (1, True)
    assert service.calls == []


def test_a_receipt_is_not_checked_without_a_key(stelae: Stelae, tmp_path: Path) -> None:
    (tmp_path / "receipt").write_text(RECEIPT, "utf-8")
    ran = stelae("audit", "check", str(tmp_path / "receipt"))
    assert (ran.code, "with the log's key" in ran.err) == (2, True)
