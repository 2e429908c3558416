"""Receipts: what they prove without a controller, and that no change of one is believed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.note import Signer
from stelae.ledger.proof import Receipt, parse_receipt
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Ledger
from tests.unit.ledger.conftest import drafts

SIGNER = Signer("example.com/log", bytes(range(32)))


@pytest.fixture
def publishing(open_ledger: Callable[..., Ledger], tmp_path: Path) -> Publisher:
    ledger = open_ledger()
    ledger.append(drafts(range(7)))
    return Publisher(ledger, Published(tmp_path / "log"), lambda _: SIGNER)


def test_a_receipt_is_checked_by_itself(publishing: Publisher) -> None:
    for index in range(7):
        text = publishing.receipt(index).text
        again = parse_receipt(text)
        assert (again.text, again.index) == (text, index)
        assert again.check(SIGNER.verifier).size == 7
        assert b'"actor":"ana"' in again.leaf


def test_its_form(publishing: Publisher) -> None:
    receipt = publishing.receipt(5)
    lines = receipt.text.decode().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert base64.b64decode(lines[1].removeprefix("extra ")) == receipt.leaf
    assert lines[2] == "index 5"
    assert [base64.b64decode(line) for line in lines[3:6]] == list(receipt.hashes)
    assert lines[6:9] == ["", "example.com/log", "7"]
    assert receipt.text.endswith(b"\n\n" + receipt.checkpoint)


def test_no_change_of_a_receipt_is_believed(publishing: Publisher) -> None:
    text = publishing.receipt(5).text
    for place in range(len(text)):
        for data in (
            text[:place], text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :],
            text[:place] + text[place + 1 :],
        ):  # fmt: skip
            with pytest.raises((Failed, InvalidInput)):
                parse_receipt(data).check(SIGNER.verifier)


def test_another_place_another_leaf_and_another_key_are_refused(publishing: Publisher) -> None:
    one, two = publishing.receipt(4), publishing.receipt(5)
    for wrong in (
        Receipt(4, two.leaf, one.hashes, one.checkpoint), Receipt(5, one.leaf, one.hashes, one.checkpoint),
        Receipt(4, one.leaf, two.hashes, one.checkpoint), Receipt(7, one.leaf, one.hashes, one.checkpoint),
        Receipt(4, one.leaf, one.hashes[:-1], one.checkpoint),
    ):  # fmt: skip
        with pytest.raises(Failed, match="proves nothing"):
            wrong.check(SIGNER.verifier)
    with pytest.raises(Failed, match="not signed by the key"):
        one.check(Signer("example.com/log", bytes(32)).verifier)


@pytest.mark.parametrize(
    "head",
    [
        b"", b"c2sp.org/tlog-proof@v1", b"c2sp.org/tlog-proof@v2\nextra YQ==\nindex 0",
        b"c2sp.org/tlog-proof@v1\nindex 0",
        b"c2sp.org/tlog-proof@v1\nextra YQ\nindex 0", b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex 00",
        b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex -1", b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex 0\nYQ==",
        b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex " + b"9" * 5_000,
        b"c2sp.org/tlog-proof@v1\r\nextra YQ==\r\nindex 0",
        b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex 0\n" + b"\n".join([base64.b64encode(bytes(32))] * 64),
        b"c2sp.org/tlog-proof@v1\n\xff\nindex 0", b"x" * 1_000_001,
    ],
)  # fmt: skip
def test_what_is_no_receipt(head: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a receipt"):
        parse_receipt(head + b"\n\nx\n")
