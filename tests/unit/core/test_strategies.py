"""Each strategy's path of allocations as a table: ``old+warm/new`` instances of web and of worker at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from stelae.core import moves, strategies
from stelae.core.moves import Move
from stelae.domain.allocation import Allocation
from stelae.domain.process import Moves
from stelae.domain.strategy import Strategy, StrategyKind
from tests.unit.core.fixtures import WEB, WORKER, release

OLD, NEW = release("v1"), release("v2")


def move(kind: str, *, batch: int = 25, keep: bool = False, stable: bool = True, **wanted: int) -> Move:
    strategy = Strategy(kind=StrategyKind(kind), batch=batch)
    return Move(strategy=strategy, wanted=wanted, candidate=NEW, stable=OLD if stable else None, keep=keep)


def cell(held: Allocation, process: str) -> str:
    old, new = held.holding(OLD.id, process), held.holding(NEW.id, process)
    warm = f"+{old.warm}" if old.warm else ""
    return f"{old.serving}{warm}/{new.serving}"


def path(way: Move) -> list[str]:
    """One line a step: the processes' cells, and the weights of old/new where there are some."""
    lines = []
    for step in range(strategies.steps(way)):
        held = strategies.next_step(way, step)
        cells = [f"{name} {cell(held, name)}" for name in way.wanted]
        if held.weights:
            cells.append(f"weights {held.weights[OLD.id]}/{held.weights[NEW.id]}")
        lines.append(", ".join(cells))
    return lines


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (move("recreate", web=3, worker=1), ["web 0/0, worker 0/0", "web 0/3, worker 0/1"]),
        (move("rolling", web=4), ["web 4/1", "web 3/2", "web 2/3", "web 1/4"]),
        (move("rolling", web=4, batch=100), ["web 4/4"]),
        (move("rolling", web=101, batch=100), ["web 101/101"]),
        (move("rolling", web=3, batch=50), ["web 3/2", "web 1/3"]),
        (move("rolling", web=1), ["web 1/1"]),
        (move("rolling", web=4, batch=50, keep=True), ["web 4/2", "web 2+2/4"]),
        (
            move("rolling", web=4, worker=2, batch=50),
            ["web 4/2, worker 2/0", "web 2/4, worker 2/0", "web 0/4, worker 2/2"],
        ),
        (
            move("rolling", web=4, worker=2, batch=50, keep=True),
            ["web 4/2, worker 2/0", "web 2+2/4, worker 2/0", "web 0+4/4, worker 2/2"],
        ),
        (move("rolling", worker=2), ["worker 2/2"]),
        (move("rolling", web=0, worker=1), ["web 0/0, worker 1/1"]),
        (move("rolling", web=0), ["web 0/0"]),
        (move("blue-green", web=2), ["web 2/2, weights 10000/0", "web 2/2, weights 0/10000"]),
        (
            move("blue-green", web=2, worker=1),
            [
                "web 2/2, worker 1/0, weights 10000/0",
                "web 2/2, worker 1/0, weights 0/10000",
                "web 2/2, worker 1/1, weights 0/10000",
            ],
        ),
        (move("rolling", stable=False, web=4, worker=1), ["web 0/4, worker 0/1"]),
        (move("blue-green", stable=False, web=4), ["web 0/4"]),
        (move("recreate", stable=False, web=4), ["web 0/4"]),
    ],
)  # fmt: skip
def test_the_path(way: Move, expected: list[str]) -> None:
    assert path(way) == expected


@pytest.mark.parametrize("kind", ["recreate", "rolling", "blue-green"])
def test_a_return_to_the_stable_release_is_one_step(kind: str) -> None:
    way = replace(move(kind, web=4, worker=1), candidate=OLD)
    assert strategies.steps(way) == 1
    assert cell(strategies.next_step(way, 0), "web") == "4/0"


def test_a_process_that_moves_with_the_traffic_has_no_step_of_its_own() -> None:
    early = replace(WORKER, moves=Moves.WITH_TRAFFIC)
    way = replace(move("rolling", web=2, worker=2, batch=50), candidate=replace(NEW, processes=(WEB, early)))
    assert path(way) == ["web 2/1, worker 2/1", "web 1/2, worker 1/2"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({"web": 8}, "6/4"), ({"web": 4}, "3/2"), ({"web": 2}, "1/2"), ({"web": 0}, "0/0")],
)
def test_a_scale_in_the_middle_changes_the_step_that_it_is_at(wanted: Mapping[str, int], expected: str) -> None:
    way = replace(move("rolling"), wanted=wanted)
    assert cell(strategies.next_step(way, 1), "web") == expected


def test_a_step_beyond_the_path_is_its_last() -> None:
    way = move("rolling", web=4)
    assert strategies.next_step(way, 99) == strategies.next_step(way, 3)


def test_a_process_that_only_one_release_has() -> None:
    lacks = replace(NEW, processes=(WEB,))
    gone = replace(move("rolling", web=2, worker=1, batch=50), candidate=lacks)
    assert path(gone) == ["web 2/1, worker 1/0", "web 1/2, worker 0/0"]
    assert "worker" not in strategies.next_step(gone, 1).floor, "what ends for good has no floor"
    added = replace(move("rolling", web=2, worker=1, batch=50), stable=replace(OLD, processes=(WEB,)))
    assert path(added)[-1] == "web 0/2, worker 0/1"


@pytest.mark.parametrize("kind", ["rolling", "blue-green"])
@pytest.mark.parametrize("batch", [1, 25, 34, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_every_step_holds_at_least_what_is_wanted(kind: str, batch: int, count: int) -> None:
    way = move(kind, batch=batch, web=count, worker=count)
    for step in range(strategies.steps(way)):
        held = strategies.next_step(way, step)
        for process in ("web", "worker"):
            together = held.holding(OLD.id, process).serving + held.holding(NEW.id, process).serving
            assert together >= count
            assert held.floor[process] == count
    last = strategies.next_step(way, strategies.steps(way) - 1)
    assert last.holding(NEW.id, "web").serving == last.holding(NEW.id, "worker").serving == count


def test_what_is_kept_warm_has_a_port() -> None:
    [held] = moves.warm(OLD, {"web": 3, "worker": 2})
    assert (held.process, held.serving, held.warm) == ("web", 0, 3)
