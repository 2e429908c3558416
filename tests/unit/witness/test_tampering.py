"""What is done to a record, and what shows it: each row of the table in docs/audit.md, also its empty fields."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from stelae.cli.growth import grown
from stelae.controller.ask import Reply
from stelae.controller.witnesses import Witnesses, _Known
from stelae.core import merkle
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.event import Scaled
from stelae.ledger import policy
from stelae.ledger.note import Signer
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.witness.witness import Witness, init

SIZE, AT = 600, 300
LONG = 400
"""This event is too long for a leaf."""
SIGNER = Signer("example.com/log", bytes(range(32)))
Rows = list[tuple[int, int, bytes]]
Change = Callable[[Rows], Rows]
DOCUMENT = Path(__file__).parents[3] / "docs" / "audit.md"


def no_client() -> NoReturn:
    raise AssertionError("no controller is asked")


class Site:
    """A record of SIZE events that is published and witnessed, with what others have kept of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "ledger.db"
        self.files = folder / "log"
        self.shown = self.files
        """Where those who keep checkpoints, and witnesses, meet the log."""
        self.now = 1_000_000
        init(folder / "witness", "witness.example/ana")
        with closing(Witness(folder / "witness")) as witness:
            witness.trust(SIGNER.verifier)
            self.witness = policy.Witness("ana", witness.verifier, "http://ana")
        self.grow(SIZE - 50)
        shutil.copytree(folder, folder / "older", ignore=shutil.ignore_patterns("witness", "ledger.lock"))
        self.grow(50)
        self.asked()
        self.kept = (self.files / "checkpoint").read_bytes()

    def open(self) -> Ledger:
        return Ledger.open(self.database, clock=lambda: self.now)

    def publisher(self, ledger: Ledger, files: Path | None = None) -> Publisher:
        return Publisher(ledger, Published(files or self.files), lambda _: SIGNER)

    def grow(self, count: int, *, process: str = "web", files: Path | None = None) -> None:
        self.now += 1
        with closing(self.open()) as ledger:
            first = ledger.size
            events = [
                Scaled(process=process, count=n, reason="x" * 70_000 if n == LONG else "")
                for n in range(first, first + count)
            ]
            ledger.append([Draft(event=event, actor="ana") for event in events])
            self.publisher(ledger, files).publish()

    def asked(self) -> str:
        """Ask the witness as a controller does; what it said of the record, "" when it cosigned."""

        def send(_: str, body: bytes) -> Reply:
            with closing(Witness(self.folder / "witness")) as witness:
                answer = witness.add_checkpoint(body)
            return Reply(status=answer.status, body=answer.body)

        with closing(self.open()) as ledger:
            publisher = self.publisher(ledger, self.shown)
            checkpoint, signed = publisher.signed()
            heard = Witnesses(None, publisher, send)._asked(self.witness, _Known(), checkpoint, signed)  # type: ignore[arg-type]  # no record
            assert heard.refused == bool(heard.problem)
            return heard.problem

    def back(self, *names: str) -> None:
        """Put parts back to what they were SIZE - 50 events ago."""
        for name in names:
            for path in self.folder.glob(f"{name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in (self.folder / "older").glob(f"{name}*"):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, self.folder / path.name)

    def change(self, change: Change, *, hashes: bool = False) -> None:
        """Change the events in the database, with all hashes above them or without."""
        with closing(sqlite3.connect(self.database)) as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            rows = change(db.execute("SELECT idx, at, leaf FROM event ORDER BY idx").fetchall())
            db.execute("DELETE FROM event")
            db.executemany("INSERT INTO event VALUES (?, ?, ?)", rows)
            if hashes:
                frontier = merkle.Frontier()
                nodes = [found for _, _, leaf in rows for found in frontier.append(merkle.leaf_hash(leaf))]
                db.execute("DELETE FROM node")
                db.executemany("INSERT INTO node VALUES (?, ?)", list(enumerate(nodes)))
                db.execute("UPDATE head SET size = ?, root = ?", (frontier.size, frontier.root()))
            for _, statement in triggers:
                db.execute(statement)
            db.commit()

    def rewrite(self, change: Change) -> None:
        """Change the events, and publish and sign all of it again."""
        self.change(change, hashes=True)
        shutil.rmtree(self.files)
        with closing(self.open()) as ledger:
            self.publisher(ledger).publish()

    # What shows a change: each returns what it says, "" when all looks right.

    def start(self) -> str:
        try:
            with closing(self.open()) as ledger:
                ledger.verify()
        except StelaeError as error:
            return str(error)
        return ""

    def verify(self, running: Ledger | None = None) -> str:
        """Of a controller that is started now, or that had the record open before."""
        try:
            with closing(running or self.open()) as ledger:
                self.publisher(ledger).check()
        except Failed as error:
            return str(error)
        return ""

    def consistency(self) -> str:
        published = False
        if self.start() == "":
            with closing(self.open()) as ledger, suppress(Failed):  # the controller goes on as it does
                self.publisher(ledger, self.shown).publish()
                published = True
            assert published or self.verify(), "a log that is published no more is shown by verify"
        try:
            grown(self.kept, SIGNER.verifier, str(self.shown), no_client)
        except Failed as error:
            return str(error)
        return ""

    def witnessed(self) -> str:
        try:
            return self.asked()
        except StelaeError:
            return ""  # nothing is published, so nobody is asked


def edited(rows: Rows) -> Rows:
    index, at, leaf = rows[AT]
    return [*rows[:AT], (index, at, leaf.replace(b"ana", b"eve")), *rows[AT + 1 :]]


def deleted(rows: Rows) -> Rows:
    return [*rows[:AT], *[(index - 1, at, leaf) for index, at, leaf in rows[AT + 1 :]]]


def missing(rows: Rows) -> Rows:
    return [*rows[:AT], *rows[AT + 1 :]]


def inserted(rows: Rows) -> Rows:
    return [*rows[: AT + 1], *[(index + 1, at, leaf) for index, at, leaf in rows[AT:]]]


def swapped(rows: Rows) -> Rows:
    one, two = rows[AT], rows[AT + 1]
    return [*rows[:AT], (AT, *two[1:]), (AT + 1, *one[1:]), *rows[AT + 2 :]]


def cut(rows: Rows) -> Rows:
    return rows[:AT]


def removed(site: Site) -> None:
    for path in site.folder.glob("ledger.db*"):
        path.unlink()


def replaced(site: Site) -> None:
    (site.folder / "other").mkdir()
    with closing(Ledger.open(site.folder / "other" / "ledger.db", clock=lambda: 5)) as other:
        other.append([Draft(event=Scaled(process="web", count=1), actor="eve") for _ in range(SIZE)])
    removed(site)
    shutil.copy(site.folder / "other" / "ledger.db", site.database)


def file_changed(site: Site) -> None:
    path = site.files / "tile" / "entries" / "001"
    data = bytearray(path.read_bytes())
    data[2] ^= 1
    path.write_bytes(data)


def body_changed(site: Site) -> None:
    [path] = (site.folder / "ledger.held").iterdir()
    path.write_bytes(path.read_bytes().replace(b"xx", b"xy", 1))


def all_back(site: Site) -> None:
    site.back("ledger.db", "log")


def grown_again(site: Site) -> None:
    all_back(site)
    site.grow(100, process="worker")


def shown_another(site: Site) -> None:
    """Others get another log; this machine's own record and files stay as they are."""
    place = site.folder / "fork"
    shutil.copytree(site.folder / "older", place)
    own, site.database = site.database, place / "ledger.db"
    site.grow(100, process="worker", files=place / "log")
    site.shown = place / "log"
    site.others = site.database  # type: ignore[attr-defined]  # only here, and asked for by hasattr
    site.database = own


@dataclass(frozen=True)
class Row:
    """What is done, and what has to be in what is said of it."""

    tamper: Callable[[Site], None]
    named: str


def plain(change: Change) -> Callable[[Site], None]:
    return lambda site: site.change(change)


def rehashed(change: Change) -> Callable[[Site], None]:
    return lambda site: site.change(change, hashes=True)


def rewritten(change: Change) -> Callable[[Site], None]:
    return lambda site: site.rewrite(change)


ROWS = {
    "an event is edited in the database": Row(plain(edited), r"event 300 is not what was recorded"),
    "an event is deleted": Row(plain(missing), r"event 300 is missing"),
    "an event is inserted": Row(plain(inserted), r"event 301 is not what was recorded|event 600 "),
    "two events are swapped": Row(plain(swapped), r"event 300 is not what was recorded"),
    "the newest events are cut off": Row(plain(cut), r"event 300 is missing|event 300 "),
    "the body of a long event, which is held beside the database, is edited": Row(
        body_changed, f"body of event {LONG} "
    ),
    "the database is removed": Row(removed, r"ledger\.db"),
    "an event is edited, and all hashes of the database made again": Row(rehashed(edited), r"from event 300 on"),
    "an event is deleted, and all hashes made again": Row(rehashed(deleted), r"event 599 and those after"),
    "an event is inserted, and all hashes made again": Row(rehashed(inserted), r"from event 301 on"),
    "two events are swapped, and all hashes made again": Row(rehashed(swapped), r"from event 300 on"),
    "the newest events are cut off, and all hashes made again": Row(rehashed(cut), r"event 300 and those after"),
    "the database is replaced by that of another record": Row(replaced, r"from event 0 on"),
    "a published file is changed": Row(file_changed, r"from event 256 on"),
    "an event is edited, and everything made, published and signed again with the key": Row(
        rewritten(edited), r"two different histories of 600|before event 600 was rewritten"
    ),
    "an event is deleted, and everything made, published and signed again with the key": Row(
        rewritten(deleted), r"event 599 and those after it are missing"
    ),
    "the database is put back to an older backup": Row(
        lambda site: site.back("ledger.db"), r"event 550 and those after"
    ),
    "the database and the published files are put back": Row(all_back, r"event 550 and those after it are missing"),
    "the same, and the record has grown again since": Row(
        grown_again, r"before event 600 (is another|was rewritten)"
    ),
    "others are shown another log, signed with the same key": Row(
        shown_another, r"before event 600 (is another|was rewritten)"
    ),
    "an event is never recorded": Row(lambda _: None, ""),
    "what is recorded is not so": Row(lambda site: site.grow(1, process="nobody"), ""),
}


def table() -> dict[str, list[str]]:
    """The rows of the documentation: what is done, and which fields say yes."""
    found = {}
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if re.match(r"\| T[1-7] \|", line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 7, line
            assert set(cells[2:6]) <= {"yes", ""}, line
            found[cells[1]] = cells
    return found


TABLE = table()


def test_each_row_is_tested_and_each_test_is_a_row() -> None:
    assert list(TABLE) == list(ROWS)
    assert {cells[0] for cells in TABLE.values()} == {f"T{number}" for number in range(1, 8)}


def test_nothing_is_shown_of_a_record_that_is_as_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for _ in range(3):
        assert [site.start(), site.verify(), site.consistency(), site.witnessed()] == [""] * 4
        site.grow(7)


@pytest.mark.parametrize("what", ROWS)
def test_what_is_done_is_shown_by_what_the_documentation_says(what: str, tmp_path: Path) -> None:
    site, row = Site(tmp_path), ROWS[what]
    running = site.open() if TABLE[what][0] == "T1" else None  # what shows at a start shows to who is there, too
    row.tamper(site)
    verified = site.verify(running) if running is not None else ""
    said = [site.start()]
    said.append(verified or (site.verify() if not said[0] else ""))
    if hasattr(site, "others"):  # those who are elsewhere look at what they are shown
        site.database = site.others
    said += [site.consistency(), "" if said[0] else site.witnessed()]
    assert ["yes" if text else "" for text in said] == TABLE[what][2:6], said
    for text in filter(None, said):
        assert re.search(row.named, text), text
