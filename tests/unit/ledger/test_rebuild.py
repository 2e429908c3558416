"""A record that is made anew of its leaves is the record; and what another process reads of one that grows."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import Scaled
from stelae.ledger.rebuild import rebuild
from stelae.ledger.snapshot import Snapshot
from stelae.ledger.store import Draft, Ledger

FIRST = Path(__file__).parents[2] / "fixtures" / "records" / "first"
LEAVES = (FIRST / "record.jsonl").read_bytes().splitlines()
ROOT = merkle.root(merkle.leaf_hash(leaf) for leaf in LEAVES).hex()


def draft(count: int) -> Draft:
    return Draft(event=Scaled(process="web", count=count), actor="ana")


def test_the_first_versions_record_is_made_anew_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert rebuild(path, [LEAVES[:3], LEAVES[3:]]) == ROOT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ledger = Ledger.open(path, clock=lambda: 1 << 52)
    ledger.verify()
    assert (ledger.size, ledger.root) == (len(LEAVES), ROOT)
    assert ledger.leaves(0, len(LEAVES)) == LEAVES
    ledger.append([draft(3)])
    ledger.verify()
    assert ledger.root_at(len(LEAVES)) == ROOT
    ledger.close()


@pytest.mark.parametrize("number", [1, 2, 255, 256, 257, 40_000])
def test_it_is_the_one_that_was_recorded(tmp_path: Path, number: int) -> None:
    old = Ledger.open(tmp_path / "old.db", clock=lambda: 7)
    old.append([draft(count) for count in range(number)])
    bundles = (old.leaves(first, min(first + 256, number)) for first in range(0, number, 256))
    assert rebuild(tmp_path / "new.db", bundles) == old.root
    new = Ledger.open(tmp_path / "new.db", clock=lambda: 7)
    new.verify()
    dumps = []
    for ledger, name in ((old, "old.db"), (new, "new.db")):
        ledger.close()
        connection = sqlite3.connect(tmp_path / name)
        dumps.append([connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("event", "node", "head")])
        connection.close()
    assert dumps[0] == dumps[1]


@pytest.mark.parametrize("leaves", [[b"{}"], [LEAVES[0], b""], [LEAVES[-1], LEAVES[0]], [LEAVES[0], LEAVES[1][:-1]]])
def test_what_is_no_record_is_refused(tmp_path: Path, leaves: list[bytes]) -> None:
    with pytest.raises(Failed):
        rebuild(tmp_path / "ledger.db", [leaves])


def test_it_is_made_only_where_it_can_be(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot be made"):
        rebuild(tmp_path / "nowhere" / "ledger.db", [LEAVES])


def test_a_snapshot_reads_while_the_record_grows(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", clock=lambda: 7)
    ledger.append([draft(count) for count in range(300)])
    snapshot = Snapshot(tmp_path / "ledger.db")
    assert snapshot.size == 300
    before = snapshot.leaves(0, 300)
    ledger.append([draft(1)])
    assert snapshot.size == 301
    assert snapshot.leaves(0, 300) == before == ledger.leaves(0, 300)
    with pytest.raises(Failed, match="event 301 is missing"):
        snapshot.leaves(300, 302)
    snapshot.close()
    ledger.append([draft(2)])
    ledger.close()


def test_what_is_no_record_of_ours_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no record"):
        Snapshot(tmp_path / "ledger.db")
    (tmp_path / "text").write_text("hello" * 1000)
    with pytest.raises(Failed):
        Snapshot(tmp_path / "text")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(Failed, match="not a record of Stelae"):
        Snapshot(tmp_path / "other.db")
