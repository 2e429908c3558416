"""Random lives of an environment: whatever happens, no act breaks a law and every rollout ends."""

from __future__ import annotations

import os
import random

import pytest

from stelae.domain.observation import Exit
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.things import Behaviour
from stelae.testing.world import World
from tests.unit.core.fixtures import environment, release
from tests.unit.core.people import by_a_person

SEEDS = int(os.environ.get("STELAE_CORE_SEEDS", "100"))


def _behaviour(chance: random.Random) -> Behaviour:
    return Behaviour(
        ready_after=chance.choice([0, 20 * MILLISECOND, 3 * SECOND, None]),
        exits_after=chance.choice([None, None, None, SECOND, 10 * SECOND]),
        unready_after=chance.choice([None, None, None, 5 * SECOND]),
        drains=chance.choice([0, 0, SECOND, 60 * SECOND]),
        ignores_term=chance.random() < 0.1,
    )


def _happen(made: World, chance: random.Random) -> None:
    what = chance.randrange(9)
    if what <= 4:
        by_a_person(made, chance, max(0, what - 1))
    elif what == 5 and made.things:
        thing = chance.choice(list(made.things.values()))
        thing.ended = thing.ended or Exit(code=137, at=made.now)
    elif what == 6:
        made.reachable = not made.reachable
    elif what == 7:
        made.complete = not made.complete
    elif chance.random() < 0.3:
        made.power_off()


@pytest.mark.parametrize("kind", ["recreate", "rolling", "blue-green", "canary"])
def test_random_lives_break_no_law(kind: str) -> None:
    for seed in range(SEEDS):
        chance = random.Random(f"{kind} {seed}")
        made = World.of(
            environment(
                kind, web=chance.randrange(1, 6), worker=chance.randrange(3),
                bake=0 if kind == "recreate" else chance.choice([0, 30]),
                batch=chance.choice([10, 25, 50, 100]), min_healthy=chance.choice([0, SECOND]),
            )
        )  # fmt: skip
        for number in range(6):
            made.behaviours[release(f"v{number}").id] = _behaviour(chance)
        for _ in range(chance.randrange(3, 12)):
            _happen(made, chance)
            made.run(seconds=chance.choice([0.01, 0.1, 1, 10, 60]))
        made.reachable = made.complete = True
        made.run(seconds=3600)
        assert made.env.rollout is None, f"seed {kind} {seed}: the rollout never ended"
        assert not made.env.pending
        _no_stranger_runs(made, f"seed {kind} {seed}")


def _no_stranger_runs(made: World, seed: str) -> None:
    """At rest only the stable release runs (and what is warm), and nothing that the record does not know.

    Where the stable release cannot keep its instances ready, what is ready of another one goes on serving.
    """
    for name, thing in made.things.items():
        assert thing.ended is None, f"{seed}: what {name} left is still there"
    allowed = {made.env.stable, *made.env.warm}
    if any(made.capacity_of(made.env.stable, name) < count for name, count in made.env.allocation.floor.items()):
        return
    for name, thing in made.things.items():
        assert name in made.env.instances, f"{seed}: {name} is not in the record"
        if thing.ended is None:
            assert thing.release in allowed, f"{seed}: {name} still runs"
