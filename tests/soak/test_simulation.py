"""Twenty thousand random lives, on all processors; see ``stelae.testing.simulation``."""

from __future__ import annotations

import os
import time

import pytest

from stelae.testing.replay import COMMAND, Tally, live_many, told
from tests.unit.simulation.test_simulation import FAULTS

pytestmark = pytest.mark.timeout(4 * 3600)

SEEDS = int(os.environ.get("STELAE_SEEDS", "20000"))
AT_ONCE = 500
LEAST = 0.05


def test_twenty_thousand_lives_break_no_law() -> None:
    whole, begun = Tally(), time.monotonic()
    for first in range(0, SEEDS, AT_ONCE):
        tally, failed = live_many(first, min(AT_ONCE, SEEDS - first))
        whole.seeds += tally.seeds
        whole.fired += tally.fired
        if failed:
            pytest.fail(f"{COMMAND} {failed}\n{told(failed)[1]}")
        print(f"\n  {whole.seeds} of {SEEDS} lives, {time.monotonic() - begun:.0f} s", end="", flush=True)
    counts = "\n".join(f"  {whole.fired[fault]:6} {whole.share(fault):6.1%}  {fault}" for fault in FAULTS)
    print(f"\n{counts}")
    rare = {fault: whole.share(fault) for fault in FAULTS if whole.share(fault) < LEAST}
    assert not rare, f"too rare to prove anything: {rare}"
