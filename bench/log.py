"""How fast the record is as a log: appends while it is published, the full check, receipts.

Run: ``python -m bench.log [FOLDER] [--events N]``; the folder (by default the working folder) is on the disk that is
measured. Prints a table with the goals.
"""

from __future__ import annotations

import argparse
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
from stelae.ledger.note import Signer
from stelae.ledger.proof import parse_receipt
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.system.clock import now

ONE_BY_ONE = 3_000
BATCH = 100
RECEIPTS = 300
MOST_ONE, MOST_BATCHED, MOST_CHECKED, MOST_RECEIPT = 1000 / 500, 1000 / 10_000, 1000 / 150_000, 20.0
SIGNER = Signer("bench.example/log", bytes(range(32)))
MS = 1000


def measure(folder: Path, events: int) -> Section:
    """Measure on the disk of *folder*, with a log of *events*."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-log-") as place:
        ledger = Ledger.open(Path(place) / "ledger.db", clock=now)
        files = Published(Path(place) / "log")
        publisher = Publisher(ledger, files, lambda _: SIGNER)
        alone = [_seconds(ledger, 1) * MS for _ in range(ONE_BY_ONE)]
        with published(publisher):
            beside = [_seconds(ledger, 1) * MS for _ in range(ONE_BY_ONE)]
            batched = [_seconds(ledger, BATCH) * MS / BATCH for _ in range(events // BATCH)]
        begun, before = time.perf_counter(), _size(files)
        publisher.publish()
        rest = (time.perf_counter() - begun) * MS / max(1, ledger.size - before)
        checked = [_timed(ledger.verify) * MS / ledger.size for _ in range(3)]
        whole = [_timed(publisher.check) * MS / ledger.size for _ in range(3)]
        receipts = [_timed(lambda n=n: publisher.receipt(n)) * MS for n in _spread(ledger.size)]
        fresh = [_fresh(ledger, publisher) for _ in range(50)]
        text = publisher.receipt(0).text
        offline = [_timed(lambda: parse_receipt(text).check(SIGNER.verifier)) * MS for _ in range(RECEIPTS)]
        size = ledger.size
        ledger.close()
    rows = [
        _mean("append one by one, nothing else going on, a leaf", alone, MOST_ONE),
        _mean("append one by one while it is published, a leaf", beside, MOST_ONE),
        _mean(f"append in batches of {BATCH} while it is published, a leaf", batched, MOST_BATCHED),
        Row(name="publish what is left behind, a leaf", samples=[rest]),
        Row(name="full check of the record, a leaf", samples=checked, goal=MOST_CHECKED),
        Row(name="full check of the record and of all published files, a leaf", samples=whole),
        Row(name="receipt of what is published", samples=receipts, goal=MOST_RECEIPT),
        Row(name="receipt of what was recorded just now", samples=fresh, goal=MOST_RECEIPT),
        Row(name="check a receipt, offline", samples=offline),
    ]
    text_of = f"A log of {size} events. Appends are means, all else medians; the goals are times of one leaf."
    return Section(title="The record as a log", text=text_of, rows=[_micro(row) for row in rows], ratios=False)


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
    print(measure(options.folder, options.events).markdown())
