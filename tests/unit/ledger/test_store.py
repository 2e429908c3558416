"""Appending, reading, finding by time, opening and refusing to open."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.event import BuildFailed, Scaled
from stelae.domain.image import Source
from stelae.ledger import store
from stelae.ledger.codec import MAX_HELD, encode
from stelae.ledger.store import Draft, Ledger

from .conftest import START, Clock, drafts
from .test_codec import OLDER

Open = Callable[..., Ledger]


def test_an_empty_record(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    assert (ledger.size, ledger.root) == (0, merkle.EMPTY_ROOT.hex())
    assert list(ledger.read()) == []
    assert ledger.index_at(START) == 0
    assert ledger.append([]) == ()
    ledger.verify()
    assert {path.name for path in tmp_path.glob("ledger.*")} >= {"ledger.db", "ledger.lock", "ledger.reserve"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_what_was_appended_is_there_after_opening_again(open_ledger: Open, clock: Clock) -> None:
    ledger = open_ledger()
    first = ledger.append(drafts([1]))
    clock.now += 10
    rest = ledger.append(drafts(range(2, 9)))
    assert [item.index for item in (*first, *rest)] == list(range(8))
    assert [item.at for item in (*first, *rest)] == [START] + [START + 10] * 7
    root = ledger.root
    leaves = [merkle.leaf_hash(encode(item)) for item in (*first, *rest)]
    assert root == merkle.root(leaves).hex()
    assert tuple(ledger.read()) == (*first, *rest)
    ledger.close()
    again = open_ledger()
    assert (again.size, again.root) == (8, root)
    assert tuple(again.read()) == (*first, *rest)
    assert again.append(drafts([9]))[0].index == 8
    again.verify()


def test_what_an_older_version_recorded_keeps_its_bytes_and_its_hash(
    open_ledger: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(store, "encode", lambda *_: OLDER)
        clock.now = 1_700_000_000_000_000
        ledger = open_ledger()
        ledger.append(drafts([1]))
        ledger.close()
    again = open_ledger()
    again.append(drafts([2]))
    assert again.leaves(0, 1) == [OLDER]
    assert again.root_at(1) == merkle.root([merkle.leaf_hash(OLDER)]).hex()
    (event,) = again.read(0, 1)
    assert event.event == Scaled(process="web", count=3, reason="")
    assert encode(event) != OLDER  # only what is new is written in the new way
    again.verify()


def test_reading_a_part(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(1203)))
    assert [item.index for item in ledger.read()] == list(range(1203))
    assert [item.index for item in ledger.read(499, 1001)] == list(range(499, 1001))
    assert [item.index for item in ledger.read(1200, 9999)] == [1200, 1201, 1202]
    assert list(ledger.read(7, 7)) == list(ledger.read(2000)) == []
    reading = ledger.read(600)
    assert next(reading).index == 600
    ledger.append(drafts([1]))  # a reader that was left half-way holds nothing up
    assert len(list(reading)) == 602


def test_time_never_goes_back(open_ledger: Open, clock: Clock) -> None:
    ledger = open_ledger()
    ledger.append(drafts([1]))
    clock.now -= 3_600_000_000
    assert ledger.append(drafts([2]))[0].at == START
    ledger.close()
    ledger = open_ledger()
    assert ledger.append(drafts([3]))[0].at == START
    clock.now = START + 1
    assert ledger.append(drafts([4]))[0].at == START + 1
    ledger.verify()


def test_the_index_at_a_time(open_ledger: Open, clock: Clock) -> None:
    ledger = open_ledger()
    times = [START, START, START + 5, START + 5, START + 5, START + 9]
    for number, clock.now in enumerate(times):
        ledger.append(drafts([number]))
    for instant in range(START - 2, START + 12):
        assert ledger.index_at(instant) == sum(at <= instant for at in times)


def test_all_drafts_or_none(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append(drafts([1]))
    root = ledger.root
    huge = Draft(event=BuildFailed(source=Source(commit="c"), reason="x" * MAX_HELD), actor="ana")
    nobody = Draft(event=Scaled(process="web", count=1), actor="")
    for bad in (huge, nobody):
        with pytest.raises(InvalidInput):
            ledger.append([*drafts([2, 3]), bad])
    assert (ledger.size, ledger.root) == (1, root)
    assert ledger.append(drafts([4]))[0].index == 1
    ledger.verify()


def test_proofs_from_the_stored_hashes(open_ledger: Open) -> None:
    ledger = open_ledger()
    roots = [ledger.root]
    for number in range(40):
        ledger.append(drafts([number]))
        roots.append(ledger.root)
    for size in range(41):
        assert ledger.root_at(size) == roots[size]
        proof = merkle.consistency_proof(size, 40, ledger.hashes)
        assert merkle.verify_consistency(size, bytes.fromhex(roots[size]), 40, bytes.fromhex(roots[40]), proof)
    for item in ledger.read():
        proof = merkle.inclusion_proof(item.index, 40, ledger.hashes)
        leaf = merkle.leaf_hash(encode(item))
        assert merkle.verify_inclusion(leaf, item.index, 40, proof, bytes.fromhex(ledger.root))
    with pytest.raises(InvalidInput, match="never had 41"):
        ledger.root_at(41)


def test_many_threads_read_while_one_writes(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(100)))
    stop = threading.Event()
    problems: list[str] = []

    def reader() -> None:
        while not stop.is_set():
            size = ledger.size
            found = [item.index for item in ledger.read(0, size)]
            if found != list(range(size)) or ledger.index_at(2**52) < size:
                problems.append(f"{size}: {len(found)}")

    threads = [threading.Thread(target=reader) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(250):  # enough commits for the log to be copied into the database meanwhile
        ledger.append(drafts([number]))
    ledger.verify()
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert ledger.size == 350


def test_appends_of_many_threads_are_one_order(open_ledger: Open) -> None:
    ledger = open_ledger()
    found: list[int] = []

    def writer(start: int) -> None:
        for number in range(start, start + 20):
            found.extend(item.index for item in ledger.append(drafts([number])))

    threads = [threading.Thread(target=writer, args=(n * 100,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(100))
    ledger.verify()


def test_the_log_stays_short(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    for number in range(450):
        ledger.append(drafts([number]))
    assert (tmp_path / "ledger.db-wal").stat().st_size < 8 * 2**20
    assert (tmp_path / "ledger.db").stat().st_size > 50_000


def test_a_second_writer_is_refused_and_told_who_has_it(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    with pytest.raises(Conflict, match=f"in use by process {os.getpid()}$"):
        open_ledger()
    ledger.close()
    ledger.close()
    holder = (
        "import sys, pathlib; from stelae.ledger.store import Ledger\n"
        "ledger = Ledger.open(pathlib.Path(sys.argv[1]), clock=lambda: 1); print('open', flush=True); input()"
    )
    path = tmp_path / "ledger.db"
    argv = [sys.executable, "-c", holder, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(Conflict, match=f"in use by process {child.pid}$"):
            open_ledger()
        child.kill()
    open_ledger().verify()


def test_a_closed_record_cannot_be_used(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append(drafts([1]))
    ledger.close()
    uses: list[Callable[[], object]] = [
        lambda: ledger.append(drafts([2])), lambda: list(ledger.read()), lambda: ledger.index_at(0), ledger.verify,
        lambda: ledger.root_at(1),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(Failed, match="the record is closed"):
            use()


def test_a_newer_record_is_refused(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger().close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(Failed, match=r"a newer Stelae wrote this record \(format 2, this one knows 1\)"):
        open_ledger()


def test_other_files_are_refused_and_left_alone(open_ledger: Open, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    for content in (b"", b"hello", os.urandom(8192), b"SQLite format 3\x00" + bytes(84), b"SQLite format 3\x00"):
        path.write_bytes(content)
        with pytest.raises(Failed):
            open_ledger(path)
        assert path.read_bytes() == content
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE event (idx INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Failed, match="not a record of Stelae"):
        open_ledger(path)
    assert path.read_bytes() == before
    path.unlink()
    path.mkdir()
    with pytest.raises(Failed):
        open_ledger(path)
    with pytest.raises(Failed, match="missing"):
        open_ledger(tmp_path / "no" / "ledger.db")


def test_a_record_that_went_missing_is_not_begun_anew(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.append(drafts([1]))
    ledger.close()
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(Failed, match=r"missing, though ledger\.reserve shows that it was there"):
        open_ledger()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(Failed, match="empty"):
        open_ledger()


def test_a_creation_that_was_cut_off_is_begun_again(open_ledger: Open, tmp_path: Path) -> None:
    (tmp_path / "ledger.db.new").write_bytes(b"half")
    (tmp_path / "ledger.db.new-journal").write_bytes(b"half")
    ledger = open_ledger()
    ledger.append(drafts([1]))
    ledger.verify()
    assert not list(tmp_path.glob("*.new*"))


def test_a_wider_mode_is_put_right(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger().close()
    (tmp_path / "ledger.db").chmod(0o644)
    ledger = open_ledger()
    ledger.append(drafts([1]))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("ledger.db*")} == {0o600}


def test_another_program_that_holds_the_file_is_a_conflict(
    open_ledger: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stelae.ledger.schema._BUSY_SECONDS", 0.05)
    ledger = open_ledger()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Conflict, match="nothing was recorded"):
        ledger.append(drafts([1]))
    other.execute("ROLLBACK")
    other.close()
    assert ledger.append(drafts([1]))[0].index == 0
    ledger.verify()


def test_a_change_by_another_program_ends_the_use(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.append(drafts([1]))
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("UPDATE head SET size = 9")
    other.close()
    with pytest.raises(Failed, match="another program changed the record"):
        ledger.append(drafts([2]))
    for use in (lambda: ledger.append(drafts([2])), ledger.verify, lambda: list(ledger.read())):
        with pytest.raises(Failed, match="out of use") as caught:
            use()
        assert "restart the controller" in caught.value.hint
    ledger.close()
    with pytest.raises(Failed, match="damaged"):
        open_ledger()


def test_an_interrupted_write_ends_the_use(open_ledger: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.append(drafts([1]))
    with pytest.raises(Failed, match="out of use: writing was interrupted"):
        ledger.append(drafts([1]))
