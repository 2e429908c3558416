"""How soon a bad canary is found and how often a good one is accused, in simulated runs: ``python -m bench.canary``.

Requests come by chance (a Poisson process of 200 a second), the judgement is the real one, looked at once a second.
Every run has a seed of its own, so that the figures are the same each time.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stelae.core.verdict import Answer
from stelae.testing.canary import Judged, Quality, watch

GOOD = Quality()
BAD = Quality(errors=0.02)
WEIGHTS = (5, 25, 50)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of run: ``answer`` is what is counted, ``least`` and ``most`` the share of the runs that may have it."""

    name: str
    run: Callable[[random.Random], Judged]
    answer: Answer = Answer.FAIL
    least: float = 0.0
    most: float = 1.0
    runs: int = 1_000


def _case(
    name: str, *, answer: Answer = Answer.FAIL, least: float = 0, most: float = 1, runs: int = 1_000, **how: Any
) -> Case:  # fmt: skip
    usual: dict[str, Any] = {"weights": WEIGHTS, "soak": 60, "new": GOOD, "old": GOOD}
    return Case(name=name, run=partial(watch, **(usual | how)), answer=answer, least=least, most=most, runs=runs)


def cases(many: int) -> list[Case]:
    """Return what is measured; *many* is the number of runs with a good canary."""
    slow = replace(GOOD, slower=(0.4, 0.04, 0.03))
    few = max(1, many // 10)
    return [
        _case("2 % errors, weight 25 %, within 20 s", least=0.99, weights=(25,), soak=20, new=BAD),
        _case("2 % errors, weight 5 %, within 60 s", least=0.95, weights=(5,), soak=60, new=BAD),
        _case("the same without a past, weight 25 %, 20 s", weights=(25,), soak=20, new=BAD, before=0),
        _case("the same without a past, weight 5 %, 60 s", weights=(5,), soak=60, new=BAD, before=0),
        _case("3 % over a p99 limit, weight 25 %, within 60 s", weights=(25,), soak=60, new=slow),
        _case("good, 3 steps of 60 s: reverted", most=0.001, runs=many),
        _case("good, 3 steps of 60 s: a person is asked", answer=Answer.PERSON, runs=few),
        _case("good, p99 exactly at its limit: reverted", most=0.001, runs=few,
              new=replace(GOOD, slower=(0.5, 0.05, 0.01)), old=replace(GOOD, slower=(0.5, 0.05, 0.01))),
        _case("good, one step of 1 h at 50 %: reverted", most=0.001, runs=max(1, many // 50),
              weights=(50,), soak=3600),
        *(
            _case(f"both {times} times worse than before: reverted", most=0.006, runs=few, past=GOOD,
                  new=Quality(errors=times / 1000), old=Quality(errors=times / 1000))
            for times in (2, 5, 20)
        ),
    ]  # fmt: skip


def _one(case: Case, seed: int) -> tuple[bool, int]:
    judged = case.run(random.Random(seed))
    return judged.verdict.answer is case.answer, judged.seconds


def measure(case: Case, workers: ProcessPoolExecutor) -> dict[str, object]:
    """Carry out the runs of *case*; return the figures."""
    began = time.monotonic()
    found = list(workers.map(partial(_one, case), range(case.runs), chunksize=max(1, case.runs // 64)))
    took = sorted(seconds for counted, seconds in found if counted)
    share = len(took) / case.runs
    return {
        "case": case.name, "runs": case.runs, "counted": len(took), "share": share,
        "median_s": took[len(took) // 2] if took else None, "ok": case.least <= share <= case.most,
        "took_s": round(time.monotonic() - began, 1),
    }  # fmt: skip


def main(many: int) -> int:
    """Print a line for each case; return 1 when one is not what it has to be."""
    fine = True
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as workers:
        for case in cases(many):
            figures = measure(case, workers)
            fine = fine and bool(figures["ok"])
            print(json.dumps(figures), flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
