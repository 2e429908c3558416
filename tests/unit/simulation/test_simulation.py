"""Random lives of an installation: the real controller and the real ledger, on a simulated machine."""

from __future__ import annotations

import os

import pytest

from stelae.testing.life import draw
from stelae.testing.simulation import live

SEEDS = int(os.environ.get("STELAE_SEEDS", "40"))


def test_random_lives_break_no_law() -> None:
    for seed in range(SEEDS):
        result = live(draw(str(seed)))
        assert not result.broken, f"python -m stelae.testing.simulation --seed {seed}"


@pytest.mark.parametrize("seed", ["1", "5"])
def test_the_same_seed_is_the_same_life(seed: str) -> None:
    first, second = live(draw(seed)), live(draw(seed))
    assert first.root == second.root
    assert first.story == second.story
