"""Projections can be deleted, damaged or foreign, and never give a wrong state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.domain.errors import InvalidInput
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger

from .conftest import drafts

Open = Callable[..., Ledger]


@pytest.fixture
def ledger(open_ledger: Open) -> Ledger:
    ledger = open_ledger()
    ledger.append(drafts(range(10)))
    return ledger


def test_what_was_saved_is_loaded(ledger: Ledger, tmp_path: Path) -> None:
    projections = Projections(tmp_path / "cache" / "projections", ledger)
    assert projections.load("installation") is None
    body = b'{"a":"\\n"}\n\nmore'
    projections.save("installation", 7, body)
    projections.save("other", 10, b"")
    assert projections.load("installation") == (7, body)
    ledger.append(drafts(range(5)))
    assert projections.load("installation") == (7, body)
    assert projections.load("other") == (10, b"")
    projections.save("installation", 15, b"new")
    assert projections.load("installation") == (15, b"new")
    projections.clear()
    projections.clear()
    assert projections.load("installation") is None
    assert ledger.size == 15


def test_a_projection_of_another_history_does_not_count(ledger: Ledger, open_ledger: Open, tmp_path: Path) -> None:
    Projections(tmp_path / "p", ledger).save("installation", 10, b"state")
    (tmp_path / "other").mkdir()
    other = open_ledger(tmp_path / "other" / "ledger.db")
    assert Projections(tmp_path / "p", other).load("installation") is None  # longer than the record
    other.append(drafts(range(100, 112)))
    assert Projections(tmp_path / "p", other).load("installation") is None


def test_a_damaged_projection_does_not_count(ledger: Ledger, tmp_path: Path) -> None:
    projections = Projections(tmp_path / "p", ledger)
    projections.save("installation", 10, b"state")
    (path,) = (tmp_path / "p").iterdir()
    data = path.read_bytes()
    for place in range(len(data)):
        for changed in (data[:place], data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]):
            path.write_bytes(changed)
            assert projections.load("installation") is None
    for header in (b"", b"\n", b"[" * 9999, b"{}\n", b'{"size":-1}\n'):
        path.write_bytes(header)
        assert projections.load("installation") is None
    path.write_bytes(data)
    assert projections.load("installation") == (10, b"state")


def test_a_size_that_never_was_and_a_wrong_name_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    projections = Projections(tmp_path / "p", ledger)
    for size in (-1, 11):
        with pytest.raises(InvalidInput):
            projections.save("installation", size, b"")
    for name in ("", "../x", "a/b", ".", "A"):
        with pytest.raises(InvalidInput):
            projections.save(name, 1, b"")


def test_a_folder_that_cannot_be_written_is_no_problem(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a file where the folder should be")
    projections = Projections(tmp_path / "p", ledger)
    projections.save("installation", 10, b"state")
    assert projections.load("installation") is None
