"""The index of history says the same as a fold of the record, at any time of any life."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from stelae.core import fold
from stelae.domain.event import ActionIntended, DeploymentRequested, Recorded
from stelae.domain.state import InstallationState
from stelae.domain.units import Instant
from stelae.ledger.history.about import named
from stelae.ledger.history.index import History
from stelae.ledger.store import Draft, Ledger
from stelae.testing.life import draw
from stelae.testing.simulation import live

SEEDS = range(30)
ASKED = 25


@contextmanager
def recorded(folder: Path, events: Sequence[Recorded]) -> Iterator[Ledger]:
    """Record *events* anew, at their times."""
    now: list[Instant] = [0]
    ledger = Ledger.open(folder / "ledger.db", clock=lambda: now[0], reserve=0)
    try:
        for item in events:
            now[0] = item.at
            ledger.append([Draft(event=item.event, actor=item.actor, environment=item.environment, key=item.key)])
        yield ledger
    finally:
        ledger.close()


def orders(state: InstallationState) -> list[list[str]]:
    """The orders of all mappings: who reads one goes by it."""
    states = [state, *state.environments.values()]
    values = [getattr(one, name) for one in states for name in one.__slots__]
    return [list(value) for value in values if isinstance(value, dict)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_state_at_any_time_is_the_fold_of_what_was_recorded_up_to_then(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    with recorded(tmp_path, live(draw(str(seed))).events) as ledger:
        states = [InstallationState()]
        for item in ledger.read():
            states.append(fold.apply(states[-1], item))
        history = History(ledger, tmp_path / "history", tmp_path / "key", step=chance.choice((1, 7, 16, 64, 256)))
        for size in [ledger.size, *(chance.randrange(len(states)) for _ in range(ASKED))]:
            found = history.state(size)
            assert found == states[size]
            assert orders(found) == orders(states[size])
            for name, env in states[size].environments.items():
                alone = history.state(size, [name])
                assert alone.environments == {name: env}
                assert alone.images == states[size].images
            check_lives(history, states[size], size)
        check_about(history, ledger)
        history.close()
        again = History(ledger, tmp_path / "history", tmp_path / "key", step=history.each)
        assert again.state(ledger.size) == states[-1]
        assert not again.distrusted
        again.close()


def check_lives(history: History, state: InstallationState, size: int) -> None:
    """What is there, by the state, lives; and the lives say what the state says of it."""
    for env in state.environments.values():
        for instance in env.instances.values():
            found = history.life(env.id, instance.id, size)
            assert found is not None
            assert found.over is None
            life = found.life
            assert (life.release, life.process, life.launched_at, life.run) == (
                instance.release, instance.process, instance.launched_at, False,
            )  # fmt: skip
            assert (life.stopped_at, life.killed_at, life.failed) == (
                instance.stopped_at, instance.killed_at, instance.failed,
            )  # fmt: skip
            assert life.ready == (instance.ready_at is not None)
            assert (life.first_ready_at is not None) == instance.ever_ready
            assert (life.ended_at is not None) == (instance.exit is not None)


def check_about(history: History, ledger: Ledger) -> None:
    """Every launch is a life of its image, and every request is found by who made it, what of and where."""
    state, images = history.state(ledger.size), {}
    launched = []
    for item in ledger.read():
        if isinstance(item.event, ActionIntended) and item.event.action.verb == "launch":
            env = state.environments[item.environment]
            launched.append((item.environment, item.event.action.instance, item.index))
            images[env.releases[item.event.action.release].image] = True
        if isinstance(item.event, DeploymentRequested):
            release = item.event.release
            for name in (
                named("p", item.actor), named("e", item.environment), named("d", item.event.deployment),
                named("r", release.id), named("m", release.image),
            ):  # fmt: skip
                assert item.index in history.events([name])
    lives = history.lives(images)
    assert [(one.environment, one.life.id, one.launched) for one in lives] == launched
    for one in lives:
        assert history.life(one.environment, one.life.id) == one
        assert one in history.named(one.life.id)
