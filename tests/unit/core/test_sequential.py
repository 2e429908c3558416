"""The sequential tests keep the error probability that they state, computed exactly where that can be done."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from stelae.core.sequential import Sample, above, highest, least, worse

ALPHA = 0.01


def ever(chance: float, reached: Callable[[int, int], bool], length: int) -> float:
    """Return the probability that *reached*(bad, of) is true at least once within *length* trials, each bad by
    *chance*: the sum over all ways, by dynamic programming."""
    ways, sum_ = {0: 1.0}, 0.0
    for trials in range(1, length + 1):
        after: dict[int, float] = {}
        for bad, probability in ways.items():
            after[bad + 1] = after.get(bad + 1, 0.0) + probability * chance
            after[bad] = after.get(bad, 0.0) + probability * (1 - chance)
        ways = {}
        for bad, probability in after.items():
            if reached(bad, trials):
                sum_ += probability
            elif probability > 1e-15:
                ways[bad] = probability
    return sum_


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.9])
def test_two_equal_releases_are_told_apart_with_the_stated_probability_at_most(share: float) -> None:
    """Each error is the candidate's with the probability of its share; 1,000 good requests come with each."""

    def reached(of_new: int, errors: int) -> bool:
        total = 1_000 * errors
        new, old = Sample(of_new, round(share * total)), Sample(errors - of_new, round((1 - share) * total))
        return worse(new, old) >= least(ALPHA)

    found = ever(share, reached, 150)
    assert ALPHA / 10 < found <= ALPHA
    assert ever(min(0.99, 4 * share), reached, 150) > 2 * ALPHA  # four times as often is something else


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.5])
def test_what_keeps_its_limit_exactly_is_above_it_with_the_stated_probability_at_most(limit: float) -> None:
    found = ever(limit, lambda bad, of: above(Sample(bad, of), limit) >= least(ALPHA), 400)
    assert found <= ALPHA
    assert ever(min(0.99, limit * 5), lambda bad, of: above(Sample(bad, of), limit) >= least(ALPHA), 400) > found


def test_the_share_may_vary_by_chance() -> None:
    """Where each request goes is drawn, and everything is looked at after each error."""
    chance, runs, accused = random.Random(7), 1_000, 0
    for _ in range(runs):
        new, old, bad_new, bad_old = 0, 0, 0, 0
        for _ in range(60):
            for _ in range(3):
                here = sum(chance.random() < 0.2 for _ in range(20))
                new, old = new + here, old + 20 - here
            if chance.random() < 0.2:
                bad_new, new = bad_new + 1, new + 1
            else:
                bad_old, old = bad_old + 1, old + 1
            if bad_new > 3 and worse(Sample(bad_new, new), Sample(bad_old, old)) >= least(0.05):
                accused += 1
                break
    assert 0 < accused <= 0.05 * runs


def test_it_does_not_matter_how_often_requests_fail_only_whose_they_are() -> None:
    assert worse(Sample(10, 1_000), Sample(30, 3_000)) < 0
    assert worse(Sample(100, 1_000), Sample(300, 3_000)) < 0
    assert worse(Sample(20, 1_000), Sample(3, 3_000)) > least(1e-7)
    assert worse(Sample(3, 3_000), Sample(20, 1_000)) < 0


def test_nothing_to_compare_is_no_evidence() -> None:
    assert worse(Sample(5, 10), Sample(0, 0)) == worse(Sample(0, 0), Sample(5, 10)) == 0
    assert worse(Sample(0, 10), Sample(0, 10)) == 0
    assert above(Sample(0, 0), 0.01) == pytest.approx(0)
    assert Sample(0, 0).share == 0


@pytest.mark.parametrize(("bad", "total"), [(0, 500), (3, 500), (120, 2_000)])
def test_the_highest_possible_share_leaves_out_what_is_rarer_than_stated(bad: int, total: int) -> None:
    limit = highest(Sample(bad, total), least(ALPHA))
    tail = sum(math.comb(total, n) * limit**n * (1 - limit) ** (total - n) for n in range(bad + 1))
    assert ALPHA / 50 < tail <= ALPHA
    assert limit > bad / total
    assert highest(Sample(0, 0), least(ALPHA)) == 1


def test_every_request_bad() -> None:
    assert above(Sample(50, 50), 0.5) > least(1e-6)
    assert highest(Sample(50, 50), 5) == 1
