"""How fast the record is: durable appends one by one and in batches, the full check, reading, a proof.

Run: ``python bench/ledger.py [FOLDER]``; the folder (by default the working folder) is on the disk that is measured.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from stelae.core import merkle
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import Scaled
from stelae.ledger.store import Draft, Ledger
from stelae.system.clock import now

ONE_BY_ONE = 1_000
BATCHES = ((100, 200), (1_000, 100))  # events in a batch, batches
PROOFS = 1_000


def measure(folder: Path = Path()) -> dict[str, float]:
    """Measure on the disk of *folder*; rates are a second, times are in milliseconds."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-ledger-") as place:
        path = Path(place) / "ledger.db"
        ledger = Ledger.open(path, clock=now)
        times = sorted(_seconds(ledger, 1) for _ in range(ONE_BY_ONE))
        figures["append one by one, events/s"] = ONE_BY_ONE / sum(times)
        figures["append one, p50 ms"] = 1000 * times[ONE_BY_ONE // 2]
        figures["append one, p99 ms"] = 1000 * times[ONE_BY_ONE * 99 // 100]
        for size, count in BATCHES:
            spent = sum(_seconds(ledger, size) for _ in range(count))
            figures[f"append in batches of {size}, events/s"] = size * count / spent
        begun = time.perf_counter()
        ledger.verify()
        figures["full check, events/s"] = ledger.size / (time.perf_counter() - begun)
        begun = time.perf_counter()
        read = sum(1 for _ in ledger.read())
        figures["read, events/s"] = read / (time.perf_counter() - begun)
        begun = time.perf_counter()
        for number in range(PROOFS):
            merkle.inclusion_proof(number * read // PROOFS, read, ledger.hashes)
        figures[f"inclusion proof of {read} events, ms"] = 1000 * (time.perf_counter() - begun) / PROOFS
        ledger.close()
        begun = time.perf_counter()
        Ledger.open(path, clock=now).close()
        figures["open and close, ms"] = 1000 * (time.perf_counter() - begun)
        figures["bytes on disk an event"] = path.stat().st_size / read
    return figures


def _seconds(ledger: Ledger, size: int) -> float:
    event = Scaled(process="web", count=ledger.size)
    draft = Draft(event=event, actor="ana", environment=EnvironmentId("guestbook/production"))
    begun = time.perf_counter()
    ledger.append([draft] * size)
    return time.perf_counter() - begun


if __name__ == "__main__":
    for name, value in measure(Path(*sys.argv[1:2])).items():
        print(f"{name:42} {value:>14,.2f}")
