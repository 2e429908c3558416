"""Automatic scaling, whatever the load does: bounded, monotonic, and still where the load is."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.core import measure
from stelae.domain.observation import Observation
from stelae.domain.scaling import Pace, Scaling
from stelae.domain.units import SECOND
from tests.unit.core.loaded import Loaded

paces = st.builds(
    Pace,
    window=st.integers(0, 20).map(lambda seconds: seconds * SECOND),
    share=st.sampled_from((0, 10, 50, 100, 400)),
    count=st.sampled_from((0, 1, 5, 50)),
    period=st.integers(1, 30).map(lambda seconds: seconds * SECOND),
)


@st.composite
def scalings(draw: st.DrawFn) -> Scaling:
    least = draw(st.integers(1, 8))
    return Scaling(
        least=least, most=least + draw(st.integers(0, 12)), target_rps=draw(st.integers(1, 300)),
        target_cpu=draw(st.sampled_from((0, 0, 50, 100))), tolerance=draw(st.integers(0, 40)),
        up=draw(paces), down=draw(paces),
    )  # fmt: skip


loads = st.one_of(st.just(0.0), st.floats(0.1, 5_000))


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, float, float]]:
    """What happens: loads, looks that show less than is there, rollouts, people; each for some seconds."""
    whats = ("load", "load", "load", "uncounted", "incomplete", "without cpu", "rollout", "steady", "person", "away")
    return draw(st.lists(st.tuples(st.sampled_from(whats), loads, st.floats(0.5, 15)), max_size=12))


def _broken(what: str, seen: Observation) -> Observation:
    if what == "uncounted":
        return replace(seen, traffic={})
    if what == "incomplete":
        return replace(seen, complete=False)
    if what == "without cpu":
        return replace(seen, instances={name: replace(view, cpu=None) for name, view in seen.instances.items()})
    return seen


@given(scaling=scalings(), life=lives(), wanted=st.integers(0, 30), slow=st.floats(0, 5))
@settings(max_examples=80, deadline=None)
def test_the_count_stays_between_the_limits_and_no_rollout_lowers_it(
    scaling: Scaling, life: list[tuple[str, float, float]], wanted: int, slow: float
) -> None:
    site = Loaded(scaling=scaling, wanted=min(max(wanted, scaling.least), scaling.most), slow=slow)
    rolls = False
    for what, number, seconds in life:
        if what == "load":
            site.rps, site.cores = number, number / 100
        elif what in ("rollout", "steady"):
            rolls = what == "rollout"
            site.rolls(rolls)
        elif what == "person":
            site.set(min(max(int(number), scaling.least), scaling.most))
        elif what == "away":
            site.pass_time(number)
        before, count = len(site.changes), site.count
        site.run(seconds, seen=lambda seen, what=what: _broken(what, seen))  # type: ignore[misc]  # no type is inferred of such a lambda
        counts = [count, *site.counts[before:]]
        assert all(scaling.least <= count <= scaling.most for count in counts)
        assert all(old != new for old, new in itertools.pairwise(counts))
        if rolls or what == "incomplete":
            assert counts == sorted(counts)


@given(
    scaling=scalings(), wanted=st.integers(1, 30), slow=st.floats(0, 3),
    loads=st.tuples(st.floats(0, 9_000), st.floats(0, 9_000)).map(sorted),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_more_to_do_never_asks_for_less(scaling: Scaling, wanted: int, slow: float, loads: list[float]) -> None:
    asked = []
    for rps in loads:
        site = Loaded(scaling=replace(scaling, least=1, most=1_000), wanted=wanted, rps=rps, slow=slow)
        site.run(10.5)
        site.env = replace(site.env, wanted={**site.env.wanted, "web": wanted})
        asked.append(measure.advice(site.memory.samples, site.env, "web", scaling).count)
    assert asked == sorted(asked)


@given(
    scaling=scalings(), wanted=st.integers(1, 20), slow=st.floats(0, 3), rps=st.floats(0, 9_000),
    each=st.sampled_from((0.25, 0.5, 1.0)),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_under_a_steady_load_the_count_goes_one_way_and_stays_where_the_load_is(
    scaling: Scaling, wanted: int, slow: float, rps: float, each: float
) -> None:
    scaling = replace(scaling, target_cpu=0)
    site = Loaded(scaling=scaling, wanted=min(max(wanted, scaling.least), scaling.most), rps=rps, slow=slow)
    first = site.count
    site.run(60, each)
    site.run(scaling.most * 31, 2.0)  # one at a time each thirty seconds, at the slowest
    counts = [first, *site.counts]
    assert counts in (sorted(counts), sorted(counts, reverse=True))
    last = site.count
    site.run(60, each)
    assert site.count == last
    # What the last count is for, with the tolerance and with what may be chance, is where the load is.
    chance = measure.REQUESTS[-1][1] * (rps * 10 + 10) ** 0.5 / 10 + 2
    if last < scaling.most:
        assert rps - chance <= last * scaling.target_rps * (100 + scaling.tolerance) / 100
    if last > scaling.least:
        few = min((last - 1) * scaling.target_rps, last * scaling.target_rps * (100 - scaling.tolerance) / 100)
        assert rps + chance >= few


@given(seed=st.integers(0, 10**6), rps=st.sampled_from((3, 18, 21, 60, 200, 215, 900, 2_050)))
@settings(max_examples=12, deadline=None)
def test_requests_that_come_by_chance_do_not_make_the_count_swing(seed: int, rps: int) -> None:
    """Twenty minutes of requests that come on their own: the count changes at most twice."""
    chance = random.Random(seed)
    site = Loaded(scaling=Scaling(least=1, most=30, target_rps=max(1, rps // 4)), wanted=4, rps=rps)
    site.run(20)
    for _ in range(1_200):
        site.rps = max(0.0, chance.gauss(rps, rps**0.5))
        site.run(1, each=1)
    assert len(site.changes) <= 2, site.changes
