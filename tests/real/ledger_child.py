"""Appends to the record in argv[1] and tells, by unbuffered writes, what was acknowledged and what was refused.

Run under strace by test_ledger_faults.py. Lines: ``begin``, then ``acked FIRST COUNT`` or ``refused FIRST COUNT
MESSAGE`` for each batch of BATCHES, then ``closed``; ``shut MESSAGE`` when the record could not be opened.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stelae.domain.errors import StelaeError
from stelae.domain.event import Scaled
from stelae.ledger import store

BATCHES = (range(1), range(1, 2), range(2, 42), *(range(number, number + 1) for number in range(42, 49)))


def drafts(numbers: range) -> list[store.Draft]:
    """Return a draft for each number."""
    return [store.Draft(event=Scaled(process="web", count=number), actor="ana") for number in numbers]


def tell(line: str) -> None:
    """Write one line at once."""
    os.write(1, line.encode() + b"\n")


def main() -> None:
    """Open, append every batch, close."""
    store._COPY_COMMITS = 3  # the log is copied into the database once, between the batches
    "".encode("utf-16-be")  # Python reads this codec's file when it is used first, and a fault there is not ours
    tell("begin")
    try:
        ledger = store.Ledger.open(Path(sys.argv[1]), clock=lambda: 1_900_000_000_000_000)
    except StelaeError as error:
        tell(f"shut {error.message}")
        return
    for numbers in BATCHES:
        try:
            ledger.append(drafts(numbers))
        except StelaeError as error:
            tell(f"refused {numbers.start} {len(numbers)} {error.message}")
        else:
            tell(f"acked {numbers.start} {len(numbers)}")
    ledger.close()
    tell("closed")


if __name__ == "__main__":
    main()
