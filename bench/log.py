"""How fast the record is as a log: appends beside rows of plain SQLite, the full check, receipts, cosignatures.

Run: ``python -m bench.log [FOLDER] [--events N]``; the folder (by default the working folder) is on the disk that is
measured. Prints tables with the goals.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Row, Section

from stelae.controller.audit import GATHER
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import Scaled
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Signer
from stelae.ledger.proof import parse_receipt
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.system.clock import now
from stelae.witness.request import request_body
from stelae.witness.witness import Witness, init

ONE_BY_ONE = 2_000
BATCHES = 100
PARTS = 10
BATCH = 100
RECEIPTS = 300
MOST_ONE, MOST_BATCHED, MOST_CHECKED, MOST_RECEIPT = 1000 / 500, 1000 / 10_000, 1000 / 150_000, 20.0
SIGNER = Signer("bench.example/log", bytes(range(32)))
MS = 1000


def measure(folder: Path, events: int) -> list[Section]:
    """Measure on the disk of *folder*, with a log of *events*."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-log-") as place:
        ledger = Ledger.open(Path(place) / "ledger.db", clock=now)
        appended = _appends(ledger, Path(place))
        files = Published(Path(place) / "log")
        publisher = Publisher(ledger, files, lambda _: SIGNER)
        with published(publisher):
            beside = [_seconds(ledger, 1) * MS for _ in range(ONE_BY_ONE)]
            batched = [_seconds(ledger, BATCH) * MS / BATCH for _ in range(events // BATCH)]
        rows = [
            _mean("append one by one while it is published, a leaf", beside, MOST_ONE),
            _mean(f"append in batches of {BATCH} while it is published, a leaf", batched, MOST_BATCHED),
            *_reads(ledger, publisher, files),
            *_cosigned(ledger, publisher, Path(place)),
        ]
        size = ledger.size
        ledger.close()
    text_of = f"A log of {size} events. Appends are means, all else medians; the goals are times of one leaf."
    return [*appended, Section(title="The record as a log", text=text_of, rows=list(map(_micro, rows)), ratios=False)]


def _appends(ledger: Ledger, place: Path) -> list[Section]:
    """Append in turn with a program that only writes rows of the same size: what is left is the disk."""
    raw = _Raw(place / "raw.db")
    sections = []
    for size, commits, goal in ((1, ONE_BY_ONE, MOST_ONE), (BATCH, BATCHES, MOST_BATCHED * BATCH)):
        theirs, ours = [], []
        for _ in range(commits):
            theirs.append(_timed(lambda size=size: raw.insert(size)) * MS)
            ours.append(_seconds(ledger, size) * MS)
        what = "one event" if size == 1 else f"{size} events at once"
        rows = [
            Row(name=f"plain SQLite (WAL, `synchronous=FULL`): {size} row{'s' * (size > 1)}", samples=_parts(theirs)),
            Row(name=f"the record: {what}, the tree over them, its root", samples=_parts(ours), goal=goal),
        ]
        text = f"Means of {commits // PARTS} commits, {PARTS} times, in turn; each is on the disk when it returns."
        sections.append(Section(title=f"Appending {what}", text=text, rows=rows))
    raw.close()
    return sections


def _parts(samples: list[float]) -> list[float]:
    """Return the means of PARTS parts of *samples*: a rate is a mean."""
    each = len(samples) // PARTS
    return [statistics.fmean(samples[part * each : part * each + each]) for part in range(PARTS)]


class _Raw:
    """Rows of the size of a leaf in a table of SQLite, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE event (idx INTEGER PRIMARY KEY, at INTEGER NOT NULL, leaf BLOB NOT NULL)")
        self._size = 0

    def insert(self, count: int) -> None:
        rows = [(self._size + number, 5, b"x" * 170) for number in range(count)]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO event VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")
        self._size += count

    def close(self) -> None:
        self._db.close()


def _reads(ledger: Ledger, publisher: Publisher, files: Published) -> list[Row]:
    begun, before = time.perf_counter(), _size(files)
    publisher.publish()
    rest = (time.perf_counter() - begun) * MS / max(1, ledger.size - before)
    checked = [_timed(ledger.verify) * MS / ledger.size for _ in range(3)]
    whole = [_timed(publisher.check) * MS / ledger.size for _ in range(3)]
    receipts = [_timed(lambda n=n: publisher.receipt(n)) * MS for n in _spread(ledger.size)]
    fresh = [_fresh(ledger, publisher) for _ in range(50)]
    text = publisher.receipt(0).text
    offline = [_timed(lambda: parse_receipt(text).check(SIGNER.verifier)) * MS for _ in range(RECEIPTS)]
    return [
        Row(name="publish what is left behind, a leaf", samples=[rest]),
        Row(name="full check of the record, a leaf", samples=checked, goal=MOST_CHECKED),
        Row(name="full check of the record and of all published files, a leaf", samples=whole),
        Row(name="receipt of what is published", samples=receipts, goal=MOST_RECEIPT),
        Row(name="receipt of what was recorded just now", samples=fresh, goal=MOST_RECEIPT),
        Row(name="check a receipt, offline", samples=offline),
    ]


def _cosigned(ledger: Ledger, publisher: Publisher, place: Path) -> list[Row]:
    """A witness that cosigns the log at sizes that grow, without a network."""
    init(place / "witness", "bench.example/witness")
    witness = Witness(place / "witness")
    witness.trust(SIGNER.verifier)
    sizes = range(1, publisher.publish().size, max(1, publisher.publish().size // RECEIPTS))
    requests, old = [], 0
    for size in sizes:
        checkpoint = Checkpoint(SIGNER.name, size, bytes.fromhex(ledger.root_at(size)))
        requests.append(request_body(old, publisher.growth(old, size), SIGNER.sign(checkpoint.text)))
        old = size
    times = [_timed(lambda body=body: witness.add_checkpoint(body)) * MS for body in requests]
    witness.close()
    return [Row(name="a witness cosigns a checkpoint, durably", samples=times)]


@contextmanager
def published(publisher: Publisher) -> Iterator[None]:
    """Publish in another thread meanwhile, as a controller does."""
    end = threading.Event()

    def keep() -> None:
        while not end.wait(GATHER):
            while publisher.step() and not end.is_set():
                pass

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _mean(name: str, samples: list[float], goal: float) -> Row:
    return Row(name=name, samples=[statistics.fmean(samples)], goal=goal)


def _micro(row: Row) -> Row:
    """Return *row* in microseconds."""
    goal = None if row.goal is None else row.goal * 1000
    return Row(name=row.name, samples=[value * 1000 for value in row.samples], goal=goal, unit="µs")


def _spread(size: int) -> Iterator[int]:
    return iter(range(0, size, max(1, size // RECEIPTS)))


def _size(files: Published) -> int:
    signed = files.checkpoint()
    return int(signed.split(b"\n")[1]) if signed else 0


def _fresh(ledger: Ledger, publisher: Publisher) -> float:
    _seconds(ledger, 1)
    return _timed(lambda: publisher.receipt(ledger.size - 1)) * MS


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _seconds(ledger: Ledger, size: int) -> float:
    event = Scaled(process="web", count=ledger.size)
    draft = Draft(event=event, actor="ana", environment=EnvironmentId("guestbook/production"))
    begun = time.perf_counter()
    ledger.append([draft] * size)
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="measure the record as a log")
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    for section in measure(options.folder, options.events):
        print(section.markdown())
