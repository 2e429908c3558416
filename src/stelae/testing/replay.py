"""Replay: seeds by the number, and one that broke a law again, cut down to the steps that matter."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

from stelae.domain.units import SECOND
from stelae.testing.clock import BEGINNING
from stelae.testing.life import Life, Step, draw
from stelae.testing.simulation import Result, live

_AT_ONCE = 25

COMMAND = "python -m stelae.testing.simulation --seed"


@dataclass(slots=True)
class Tally:
    """How many seeds were lived, and in how many of them each kind of fault happened."""

    seeds: int = 0
    fired: Counter[str] = field(default_factory=Counter)

    def share(self, fault: str) -> float:
        """Return the share of the seeds in which *fault* happened."""
        return self.fired[fault] / self.seeds if self.seeds else 0.0

    def __str__(self) -> str:
        lines = [f"{self.share(fault):6.1%}  {fault}" for fault, _ in self.fired.most_common()]
        return "\n".join([f"{self.seeds} seeds; in this share of them it happened:", *lines])


def live_many(first: int, count: int, workers: int | None = None) -> tuple[Tally, str]:
    """As ``live_all``, for *count* seeds from number *first* on, in as many processes as there are processors."""
    numbers = [str(number) for number in range(first, first + count)]
    parts = [numbers[start : start + _AT_ONCE] for start in range(0, count, _AT_ONCE)]
    whole, failed = Tally(), ""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for tally, bad in pool.map(live_all, parts):
            whole.seeds += tally.seeds
            whole.fired += tally.fired
            failed = failed or bad
            if failed:
                pool.shutdown(cancel_futures=True)
                break
    return whole, failed


def live_all(seeds: Iterable[str]) -> tuple[Tally, str]:
    """Live *seeds* up to the first that breaks a law; return the tally and that seed, "" when none did."""
    tally = Tally()
    for seed in seeds:
        result = live(draw(seed))
        tally.seeds += 1
        tally.fired.update(set(result.fired))
        if result.broken:
            return tally, seed
    return tally, ""


def shrink(life: Life, fails: Callable[[Life], bool]) -> Life:
    """Return *life* with as few of its steps as still make it fail (delta debugging)."""
    kept: list[Step] = list(life.steps)
    size = max(1, len(kept) // 2)
    while True:
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if fails(replace(life, steps=tuple(fewer))):
                kept = fewer
                break
        else:
            if size == 1:
                return replace(life, steps=tuple(kept))
            size = max(1, size // 2)


def told(seed: str) -> tuple[Result, str]:
    """Live *seed*; return its result and, with all that was recorded, what happened: of a life that breaks a law,
    of the smallest part that breaks the same."""
    life = draw(seed)
    result = live(life)
    if result.broken:
        law = result.broken.partition(":")[0]
        life = shrink(life, lambda smaller: live(smaller).broken.partition(":")[0] == law)
        result = live(life)
    images = [f"image {number}: {how}" for number, how in enumerate(life.behaviours)]
    recorded = [
        ((item.at - BEGINNING) / SECOND, f"    {item.index} {item.environment} {item.actor}: {item.event}")
        for item in result.events
    ]
    record = [f"{at:10.3f} {text}" for at, text in recorded]
    parts = [*images, "", "What happened:", *result.story, "", "What was recorded:", *record, ""]
    parts.append(f"BROKEN {result.broken}" if result.broken else "no law was broken")
    return result, "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Live one seed, or many, as the command line says; return 1 when a law was broken."""
    parser = argparse.ArgumentParser(prog="stelae.testing.simulation", description=__doc__)
    parser.add_argument("--seed", help="live this one and tell what happened")
    parser.add_argument("--seeds", type=int, default=200, help="live so many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="begin with this one (default: %(default)s)")
    given = parser.parse_args(arguments)
    failed, text = given.seed, ""
    if failed is None:
        tally, failed = live_many(given.first, given.seeds)
        text = str(tally)
    if failed:
        result, story = told(failed)
        text = "\n".join(part for part in (text, f"{COMMAND} {failed}", story) if part)
        failed = failed if result.broken else ""
    sys.stdout.write(text + "\n")
    return 1 if failed else 0
