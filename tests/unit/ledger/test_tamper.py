"""Records that were changed behind Stelae's back: found, with the index named, and never taken as true."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.event import Recorded
from stelae.ledger.codec import encode
from stelae.ledger.store import Ledger

from .conftest import Clock, drafts

Open = Callable[..., Ledger]
SIZE = 45


class Hand:
    """Somebody with the file and an SQLite shell, who puts the triggers back afterwards."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.triggers = self.db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()

    def __enter__(self) -> sqlite3.Connection:
        for name, _ in self.triggers:
            self.db.execute(f"DROP TRIGGER {name}")
        return self.db

    def __exit__(self, *_: object) -> None:
        for _, sql in self.triggers:
            self.db.execute(sql)
        self.db.close()


@pytest.fixture
def path(open_ledger: Open, clock: Clock, tmp_path: Path) -> Path:
    """A closed record of SIZE events."""
    ledger = open_ledger()
    for number in range(SIZE):
        clock.now += 1000
        ledger.append(drafts([number]))
    ledger.close()
    return tmp_path / "ledger.db"


def leaf_of(db: sqlite3.Connection, index: int) -> bytes:
    (leaf,) = db.execute("SELECT leaf FROM event WHERE idx = ?", (index,)).fetchone()
    assert isinstance(leaf, bytes)
    return leaf


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET leaf = x'00' WHERE idx = 3",
        "UPDATE event SET at = 1",
        "DELETE FROM event WHERE idx = 44",
        "INSERT OR REPLACE INTO event VALUES (3, 1, x'00')",
        "INSERT INTO event VALUES (46, 1, x'00')",
        "INSERT INTO event VALUES (-1, 1, x'00')",
        "UPDATE node SET hash = zeroblob(32)",
        "DELETE FROM node",
        "INSERT OR REPLACE INTO node VALUES (3, zeroblob(32))",
        "UPDATE head SET size = 44",
        "UPDATE head SET root = zeroblob(32)",
        "DELETE FROM head",
    ],
)
def test_triggers_refuse_what_does_not_grow(path: Path, statement: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="the record"):
        db.execute(statement)
    db.close()


def test_a_dropped_or_added_trigger_is_found(path: Path, open_ledger: Open) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TRIGGER more AFTER INSERT ON event BEGIN UPDATE head SET size = 0; END")
    with pytest.raises(Failed, match="triggers were changed"):
        open_ledger()
    db.execute("DROP TRIGGER more")
    open_ledger().close()
    db.execute("DROP TRIGGER event_delete")
    with pytest.raises(Failed, match="triggers were changed"):
        open_ledger()
    db.close()


@pytest.mark.parametrize("index", [0, 1, 17, SIZE - 2, SIZE - 1])
def test_an_edit_is_found(path: Path, open_ledger: Open, index: int) -> None:
    with Hand(path) as db:
        leaf = leaf_of(db, index).replace(b'"actor":"ana"', b'"actor":"eve"')
        db.execute("UPDATE event SET leaf = ? WHERE idx = ?", (leaf, index))
    ledger = open_ledger()
    with pytest.raises(Failed, match=f"event {index} is not what was recorded"):
        ledger.verify()
    reading = ledger.read()
    assert [next(reading).index for _ in range(index)] == list(range(index))
    with pytest.raises(Failed, match=f"event {index} is not what was recorded"):
        next(reading)
    assert len(list(ledger.read(0, index))) == index
    assert len(list(ledger.read(index + 1))) == SIZE - index - 1


@pytest.mark.parametrize("index", range(0, SIZE, 4))
def test_an_edit_with_its_hash_is_found(path: Path, open_ledger: Open, index: int) -> None:
    with Hand(path) as db:
        leaf = leaf_of(db, index).replace(b'"actor":"ana"', b'"actor":"eve"')
        db.execute("UPDATE event SET leaf = ? WHERE idx = ?", (leaf, index))
        stored = merkle.node_index(0, index)
        db.execute("UPDATE node SET hash = ? WHERE idx = ?", (merkle.leaf_hash(leaf), stored))
    with pytest.raises(Failed, match=r"the tree over events|the root does not match|its root does not match"):
        open_ledger().verify()


@pytest.mark.parametrize("index", [0, 20, SIZE - 1])
def test_a_deletion_is_found(path: Path, open_ledger: Open, index: int) -> None:
    with Hand(path) as db:
        db.execute("DELETE FROM event WHERE idx = ?", (index,))
    with pytest.raises(Failed, match=f"event {index} is missing"):
        open_ledger().verify()


def test_a_deletion_that_moves_the_rest_up_is_found(path: Path, open_ledger: Open) -> None:
    with Hand(path) as db:
        db.execute("DELETE FROM event WHERE idx = 20")
        db.execute("UPDATE event SET idx = -idx WHERE idx > 20")
        db.execute("UPDATE event SET idx = -idx - 1 WHERE idx < 0")
    with pytest.raises(Failed, match=f"event {SIZE - 1} is missing"):
        open_ledger()
    with Hand(path) as db:
        db.execute("INSERT INTO event SELECT 44, at, leaf FROM event WHERE idx = 43")
    with pytest.raises(Failed, match="event 20 is not what was recorded"):
        open_ledger().verify()


def test_a_truncation_is_found(path: Path, open_ledger: Open) -> None:
    with Hand(path) as db:
        db.execute("DELETE FROM event WHERE idx >= 30")
    with pytest.raises(Failed, match="event 30 is missing"):
        open_ledger()
    with Hand(path) as db:
        db.execute("DELETE FROM node WHERE idx >= ?", (merkle.node_count(30),))
    with pytest.raises(Failed, match="damaged"):
        open_ledger()
    with Hand(path) as db:
        db.execute("UPDATE head SET size = 30")
    with pytest.raises(Failed, match="damaged"):
        open_ledger()


def test_an_insertion_is_found(path: Path, open_ledger: Open) -> None:
    with Hand(path) as db:
        db.execute("INSERT INTO event VALUES (?, 9000000000000000, ?)", (SIZE, leaf_of(db, 5)))
    with pytest.raises(Failed, match=f"event {SIZE} is missing or was not recorded"):
        open_ledger()
    with Hand(path) as db:
        db.execute("DELETE FROM event WHERE idx = ?", (SIZE,))
        db.execute("INSERT INTO event VALUES (-1, 0, x'00')")
    with pytest.raises(Failed, match="event 0 is missing"):
        open_ledger().verify()


def test_a_record_that_changes_while_it_is_open_is_found(path: Path, open_ledger: Open) -> None:
    ledger = open_ledger()
    with Hand(path) as db:
        db.execute("INSERT INTO event VALUES (?, 9000000000000000, ?)", (SIZE, leaf_of(db, 5)))
    with pytest.raises(Failed, match=f"event {SIZE} was not recorded by Stelae"):
        ledger.verify()
    with Hand(path) as db:
        db.execute("DELETE FROM event WHERE idx >= 30")
    with pytest.raises(Failed, match="event 30 is missing"):
        ledger.verify()
    with pytest.raises(Failed, match="event 30 is missing"):
        list(ledger.read())
    with pytest.raises(Failed, match=r"event \d+ is missing"):
        ledger.index_at(2**52)
    with Hand(path) as db:
        db.execute("DELETE FROM head")
        db.execute("DELETE FROM node WHERE idx = 3")
    with pytest.raises(Failed, match="head is missing"):
        ledger.verify()
    with pytest.raises(Failed, match="stored hash 3 of the tree is missing"):
        ledger.hashes([1, 3])
    ledger.close()
    with pytest.raises(Failed, match="head is missing"):
        open_ledger()


def test_a_swap_is_found(path: Path, open_ledger: Open) -> None:
    with Hand(path) as db:
        seven, nine = leaf_of(db, 7), leaf_of(db, 9)
        db.execute("UPDATE event SET leaf = ? WHERE idx = 7", (nine,))
        db.execute("UPDATE event SET leaf = ? WHERE idx = 9", (seven,))
    with pytest.raises(Failed, match="event 7 is not what was recorded"):
        open_ledger().verify()


def test_a_changed_time_beside_an_event_is_found(path: Path, open_ledger: Open) -> None:
    with Hand(path) as db:
        db.execute("UPDATE event SET at = at + 1 WHERE idx = 12")
    ledger = open_ledger()
    with pytest.raises(Failed, match="the time beside event 12"):
        ledger.verify()
    with pytest.raises(Failed, match="the time beside event 12"):
        list(ledger.read())


@pytest.mark.parametrize("index", [0, 40, merkle.node_count(SIZE) - 1])
def test_a_changed_or_added_hash_is_found(path: Path, open_ledger: Open, index: int) -> None:
    with Hand(path) as db:
        db.execute("UPDATE node SET hash = zeroblob(32) WHERE idx = ?", (index,))
    with pytest.raises(Failed, match=r"damaged: .*(event|tree)"):
        open_ledger().verify()


def test_a_hash_too_many_and_another_root_are_found(path: Path, open_ledger: Open) -> None:
    ledger = open_ledger()
    count = merkle.node_count(SIZE)
    with Hand(path) as db:
        db.execute("INSERT INTO node VALUES (?, zeroblob(32))", (count,))
    with pytest.raises(Failed, match=f"hash of an event {SIZE} that is not there"):
        ledger.verify()
    ledger.close()
    with pytest.raises(Failed, match=f"its tree is not that of {SIZE} events"):
        open_ledger()
    with Hand(path) as db:
        db.execute("DELETE FROM node WHERE idx = ?", (count,))
    ledger = open_ledger()
    with Hand(path) as db:
        db.execute("UPDATE head SET root = zeroblob(32)")
    with pytest.raises(Failed, match=f"the root does not match the events 0 to {SIZE - 1}"):
        ledger.verify()


def test_a_record_whose_time_goes_back_is_found(path: Path, open_ledger: Open) -> None:
    """Only a Stelae with a fault could write it: all hashes are right."""
    ledger = open_ledger()
    back = [Recorded(index=SIZE, at=5, actor="ana", event=drafts([0])[0].event)]
    assert ledger._written(back, [encode(item) for item in back], ())
    with pytest.raises(Failed, match=f"event {SIZE} is older than the one before it"):
        ledger.verify()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_found(path: Path, open_ledger: Open, part: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(Failed):
        open_ledger().verify()


def test_bit_flips_never_give_a_wrong_event(path: Path, open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    true = tuple(ledger.read())
    ledger.close()
    data = path.read_bytes()
    leaves = [data.index(encode(item)) for item in true]
    chance = random.Random(20261119)
    flips = [chance.randrange(len(data) * 8) for _ in range(100)]
    in_leaves = {chance.choice(leaves) * 8 + chance.randrange(500) for _ in range(20)}
    found = 0
    for flip in (*flips, *in_leaves):
        changed = bytearray(data)
        changed[flip // 8] ^= 1 << flip % 8
        folder = tmp_path / f"flip{flip}"
        folder.mkdir()
        (folder / "ledger.db").write_bytes(changed)
        try:
            ledger = open_ledger(folder / "ledger.db")
            events = tuple(ledger.read())
            ledger.verify()
            assert events == true, flip
            ledger.append(drafts([1]))
            assert tuple(ledger.read())[:-1] == true, flip
        except StelaeError:
            found += 1
        else:
            assert flip not in in_leaves, "a flip in an event was not found"
        shutil.rmtree(folder)
    assert found >= 20
