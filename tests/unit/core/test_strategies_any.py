"""Each strategy's path, whatever is wanted, held and changed on the way."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stelae.core import strategies
from stelae.core.moves import Move, steady, warm
from stelae.domain.allocation import FULL_WEIGHT, Allocation
from stelae.domain.process import Moves, Process
from stelae.domain.release import Release
from stelae.domain.strategy import Step, Strategy, StrategyKind
from tests.unit.core.fixtures import WEB, WORKER, release

PROCESSES = (
    WEB,
    WORKER,
    replace(WEB, name="admin", port=9000),
    replace(WORKER, name="relay", moves=Moves.WITH_TRAFFIC),
)
NAMES = [process.name for process in PROCESSES]

wanteds = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 12))
processes = st.lists(st.sampled_from(PROCESSES), min_size=1, unique_by=lambda process: process.name).map(tuple)


weights = st.sets(st.integers(1, 99), max_size=4).map(
    lambda found: tuple(Step(weight=weight * 100) for weight in sorted(found))
)


@st.composite
def moves(draw: st.DrawFn, *kinds: StrategyKind) -> Move:
    """A move from one release to another one, with any processes, counts and share of a batch."""
    return Move(
        strategy=Strategy(
            kind=draw(st.sampled_from(kinds or tuple(StrategyKind))),
            batch=draw(st.integers(1, 100)),
            steps=draw(weights),
        ),
        wanted=draw(wanteds),
        candidate=release("v2", *draw(processes)),
        stable=release("v1", *draw(processes)),
        keep=draw(st.booleans()),
    )


def path(way: Move) -> list[Allocation]:
    return [strategies.next_step(way, step) for step in range(strategies.steps(way))]


def has(of: Release | None, name: str) -> bool:
    return of is not None and of.process(name) is not None


def serving(held: Allocation, of: Release | None, name: str) -> int:
    return held.holding(of.id, name).serving if of else 0


@given(moves())
def test_a_path_ends_and_its_last_step_holds_all_that_is_wanted_of_the_new(way: Move) -> None:
    assert 1 <= strategies.steps(way) <= max(len(way.strategy.steps), *way.wanted.values(), 0) + 2
    last, end = path(way)[-1], steady(way.candidate, way.wanted)
    assert set(end.holdings) <= set(last.holdings)
    assert all(held.release == way.candidate.id and held.warm == 0 for held in end.holdings)
    assert {held.process: held.serving for held in end.holdings} == {
        name: count for name, count in way.wanted.items() if count and has(way.candidate, name)
    }


@given(moves())
def test_no_step_holds_what_a_release_does_not_have_or_more_than_is_wanted(way: Move) -> None:
    releases = {way.candidate.id: way.candidate, **({way.stable.id: way.stable} if way.stable else {})}
    for held in path(way):
        keys = [(one.release, one.process) for one in held.holdings]
        assert len(keys) == len(set(keys))
        for one in held.holdings:
            process = releases[one.release].process(one.process)
            assert process is not None
            assert min(one.serving, one.warm) >= 0
            assert 1 <= one.total <= way.wanted[one.process]
            assert not one.warm or (way.keep and process.port is not None)
        assert all(count == way.wanted[name] and has(way.candidate, name) for name, count in held.floor.items())


@given(moves(StrategyKind.RECREATE))
def test_recreate_never_holds_two_releases_and_has_no_floor(way: Move) -> None:
    first, second = path(way)
    assert first == Allocation()
    assert {held.release for held in second.holdings} <= {way.candidate.id}
    assert not second.floor


@given(moves(StrategyKind.ROLLING))
def test_rolling_keeps_what_is_wanted_and_moves_a_batch_at_a_time(way: Move) -> None:
    steps = path(way)
    for name, count in way.wanted.items():
        batch = max(1, -(-count * way.strategy.batch // 100))
        late = _is_late(way.candidate.process(name))
        both = has(way.stable, name) and has(way.candidate, name)
        old = [serving(held, way.stable, name) for held in steps]
        new = [serving(held, way.candidate, name) for held in steps]
        assert old == sorted(old, reverse=True)
        assert new == sorted(new)
        if both:
            assert all(
                count <= before + after <= count + (count if late else batch)
                for before, after in zip(old, new, strict=True)
            )
            assert all(held.floor.get(name, 0) == count for held in steps)
        if not late:
            assert all(a - b <= batch for a, b in zip([count, *old], old, strict=False) if has(way.stable, name))
            assert all(b - a <= batch for a, b in zip([0, *new], new, strict=False))
        if late and both and len(steps) > 1:
            assert new[:-1] == [0] * (len(new) - 1), "what moves after the traffic waits for its end"
            assert old == [count] * len(old)


@given(moves(StrategyKind.ROLLING), st.integers(1, 12))
def test_rolling_keeps_warm_exactly_what_it_has_replaced(way: Move, count: int) -> None:
    way = replace(way, wanted={"web": count}, keep=True, stable=release("v1", WEB), candidate=release("v2", WEB))
    assert way.stable is not None
    assert {held.holding(way.stable.id, "web").total for held in path(way)} == {count}


def _is_late(process: Process | None) -> bool:
    return process is not None and process.port is None and process.moves is Moves.AFTER_TRAFFIC


@given(moves(StrategyKind.BLUE_GREEN))
def test_blue_green_switches_all_of_the_traffic_in_one_step(way: Move) -> None:
    assert way.stable is not None
    steps = path(way)
    shares = [(held.weights[way.stable.id], held.weights[way.candidate.id]) for held in steps]
    assert shares == [(FULL_WEIGHT, 0)] + [(0, FULL_WEIGHT)] * (len(steps) - 1)
    assert steps[0].holdings == steps[1].holdings, "the switch starts and ends nothing"
    for held in steps:
        assert held.floor == steady(way.candidate, way.wanted).floor
        assert all(serving(held, way.stable, name) == n for name, n in way.wanted.items() if has(way.stable, name))
    late = [name for name, n in way.wanted.items() if n and _is_late(way.candidate.process(name))]
    assert len(steps) == 2 + bool(late)
    assert not any(serving(held, way.candidate, name) for held in steps[:2] for name in late)


@given(moves(), wanteds, st.integers(0, 20))
def test_a_scale_in_the_middle_gives_a_step_of_the_new_path(way: Move, other: dict[str, int], step: int) -> None:
    scaled = replace(way, wanted=other)
    held = strategies.next_step(scaled, step)
    steps = path(scaled)
    assert held == steps[min(step, len(steps) - 1)]


@given(moves(), st.booleans())
def test_where_there_is_nothing_to_leave_there_is_one_step(way: Move, first: bool) -> None:
    way = replace(way, stable=None if first else way.candidate)
    assert path(way) == [steady(way.candidate, way.wanted)]


@given(wanteds, processes)
def test_what_stays_warm_has_a_port_and_no_traffic(wanted: dict[str, int], of: tuple[Process, ...]) -> None:
    kept = warm(release("v1", *of), wanted)
    ported = {process.name for process in of if process.port is not None}
    assert {held.process: held.warm for held in kept} == {n: c for n, c in wanted.items() if c and n in ported}
    assert all(held.serving == 0 for held in kept)
