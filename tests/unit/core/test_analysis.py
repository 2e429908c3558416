"""The analysis of a canary: what its requests say, how sure that is, and what is said in words."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import analysis, findings, metrics
from stelae.core.verdict import Answer, Verdict
from stelae.domain.observation import Observation
from stelae.domain.state import EnvironmentState, Rollout
from stelae.domain.strategy import Analysis, Match, MatchKind, Step, StrategyKind
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.canary import BEGINNING, LIMITS, NEW, OLD, Quality, begun, watch

GOOD, BAD = Quality(), Quality(errors=0.02)
SOAK = 60
OVER, EARLY = BEGINNING + SOAK * SECOND, BEGINNING + SECOND
LIMIT = Analysis(error_rate=10_000)  # 1 %


def counted(requests: int, errors: int = 0, slow: int = 0, *, at: int = 20, slow_at: int = 700) -> Traffic:
    """Traffic of which *slow* requests took up to *slow_at* milliseconds, and the others up to *at*."""
    latency = [0] * (len(BOUNDS) + 1)
    latency[BOUNDS.index(at * MILLISECOND)] += requests - slow
    latency[BOUNDS.index(slow_at * MILLISECOND)] += slow
    return Traffic(requests=requests, errors=errors, latency=tuple(latency), began=1)


def environment(
    how: Analysis = LIMIT, *, past: Traffic | None = None, weight: int = 25, **more: Any
) -> EnvironmentState:
    """An environment whose canary was held at BEGINNING."""
    env = begun((weight,), SOAK, how)
    baseline = {NEW.id: Traffic(), OLD.id: past or Traffic()}
    held: dict[str, Any] = {"held_at": BEGINNING, "baseline": baseline, "intervals": 1} | more
    return replace(env, rollout=replace(rollout_of(env), **held))


def rollout_of(env: EnvironmentState) -> Rollout:
    assert env.rollout is not None
    return env.rollout


def judged(env: EnvironmentState, new: Traffic, old: Traffic | None, now: int = OVER) -> Verdict:
    traffic = {NEW.id: new} if old is None else {NEW.id: new, OLD.id: old}
    return analysis.judge(env, rollout_of(env), Observation(as_of=now, applied=0, traffic=traffic), now)


def test_a_good_candidate_passes_after_the_soak_and_the_reason_has_the_numbers() -> None:
    verdict = judged(environment(), counted(1_204, 1), counted(3_600, 3), EARLY)
    assert verdict.answer is Answer.WAIT
    verdict = judged(environment(), counted(1_204, 1), counted(3_600, 3))
    assert verdict.answer is Answer.PASS
    assert verdict.reason == "errors 0.08 % (old 0.08 %), p99 20 ms (old 20 ms), 1,204 requests"


def test_a_bad_one_fails_at_once_and_the_cause_comes_first() -> None:
    verdict = judged(environment(), counted(1_000, 21), counted(3_000, 3), EARLY)
    assert verdict.answer is Answer.FAIL
    assert verdict.reason == (
        "errors are worse than the old release's: errors 2.1 % (old 0.10 %), p99 20 ms (old 20 ms), 1,000 requests"
    )


def test_the_candidate_is_what_is_accused() -> None:
    assert judged(environment(), counted(1_000, 1), counted(3_000, 60)).answer is Answer.PASS


def test_errors_over_the_limit_fail_also_with_nothing_to_compare() -> None:
    for old in (None, counted(0)):
        verdict = judged(environment(), counted(1_000, 60), old, EARLY)
        assert verdict.answer is Answer.FAIL
        assert verdict.reason.startswith("errors are over the limit of 1 %: errors 6 %, p99")
    assert judged(environment(), counted(1_000, 9), None).answer is Answer.PASS


def test_without_comparing_only_the_limit_counts() -> None:
    env = environment(replace(LIMIT, compare=False))
    assert judged(env, counted(10_000, 80), counted(30_000, 3)).answer is Answer.PASS
    assert judged(environment(), counted(10_000, 80), counted(30_000, 3)).answer is Answer.FAIL


@pytest.mark.parametrize(("errors", "answer"), [(140, Answer.PASS), (320, Answer.FAIL)])
def test_a_difference_that_does_not_matter_is_no_reason(errors: int, answer: Answer) -> None:
    """0.14 % against 0.05 % is certain, and within half as many again and 0.1 percentage points."""
    env = environment(Analysis())
    assert judged(env, counted(100_000, errors), counted(300_000, 150)).answer is answer


@pytest.mark.parametrize(("errors", "answer"), [(800, Answer.PASS), (900, Answer.FAIL)])
def test_half_as_many_again_is_no_reason(errors: int, answer: Answer) -> None:
    assert judged(environment(Analysis()), counted(100_000, errors), counted(300_000, 1_500)).answer is answer


def test_little_traffic_never_passes_and_a_person_is_asked_after_the_soak() -> None:
    env = environment()
    needs = "of the 50 requests that a verdict needs have come"
    for came, said in ((counted(0), f"0 {needs}: no requests yet"), (counted(49), f"49 {needs}: errors 0 %")):
        assert judged(env, came, counted(3_000), OVER - 1).answer is Answer.WAIT
        verdict = judged(env, came, counted(3_000))
        assert verdict.answer is Answer.PERSON
        assert verdict.reason.startswith(said)
    assert judged(env, counted(50), counted(3_000)).answer is Answer.PASS


def test_without_a_soak_requests_are_waited_for_a_little() -> None:
    env = environment()
    gate = rollout_of(env).strategy.steps[0].gate
    steps = (Step(weight=2_500, gate=replace(gate, soak=0)),)
    env = replace(env, rollout=replace(rollout_of(env), strategy=replace(rollout_of(env).strategy, steps=steps)))
    late = BEGINNING + analysis.LEAST_WAIT
    assert judged(env, counted(49), counted(100), late - 1).answer is Answer.WAIT
    assert judged(env, counted(49), counted(100), late).answer is Answer.PERSON
    assert judged(env, counted(50), counted(100), BEGINNING).answer is Answer.PASS


def test_four_bad_requests_are_the_least_that_count_and_four_of_four_are_enough() -> None:
    assert judged(environment(), counted(3, 3), counted(300), EARLY).answer is Answer.WAIT
    assert judged(environment(), counted(4, 4), counted(300), EARLY).answer is Answer.FAIL


def test_a_few_errors_that_are_more_than_the_limit_allows_do_not_pass() -> None:
    """They are no cause yet: chance may have done it. But nobody says that the limit is kept."""
    verdict = judged(environment(), counted(76, 3), counted(1_444))
    assert verdict.answer is Answer.PERSON
    assert verdict.reason.startswith("errors may be worse, and the requests do not suffice to tell: errors 3.95 %")
    assert judged(environment(), counted(76, 3), counted(1_444), EARLY).answer is Answer.WAIT
    assert judged(environment(), counted(76, 2), counted(1_444)).answer is Answer.PERSON
    assert judged(environment(), counted(76, 1), counted(1_444)).answer is Answer.PASS
    assert judged(environment(), counted(301, 3), counted(1_444, 8)).answer is Answer.PASS


def test_doubt_does_not_pass() -> None:
    """Too little to be certain, too much to go on: a person has to say, until more requests have told."""
    verdict = judged(environment(), counted(600, 8), counted(1_800, 3))
    assert verdict.answer is Answer.PERSON
    assert verdict.reason.startswith(
        "errors may be worse, and the requests do not suffice to tell: errors 1.33 % (old"
    )
    assert judged(environment(), counted(600, 8), counted(1_800, 3), EARLY).answer is Answer.WAIT
    assert judged(environment(), counted(1_200, 8), counted(3_600, 10)).answer is Answer.PASS


def test_what_the_old_release_did_before_makes_it_certain_sooner() -> None:
    new, old = counted(700, 10), counted(2_100, 3)
    assert judged(environment(), new, old).answer is Answer.PERSON
    assert judged(environment(past=counted(200_000, 200)), new, added(old, 200_000, 200)).answer is Answer.FAIL
    # Nor is the past enough where the same time does not speak plainly.
    new, old = counted(600, 9), counted(1_800, 8)
    assert judged(environment(past=counted(200_000, 200)), new, added(old, 200_000, 200)).answer is not Answer.FAIL
    new, old = counted(700, 10), counted(2_100, 3)
    # Nor a past in which the old release failed nearly as often.
    assert judged(environment(past=counted(20_000, 60)), new, added(old, 20_000, 60)).answer is Answer.PERSON
    # The past says nothing where the old release is not as it was, or was never good.
    assert (
        judged(environment(past=counted(200_000, 20)), new, added(counted(2_100, 12), 200_000, 20)).answer
        is Answer.PERSON
    )
    assert judged(environment(past=counted(200_000, 2_000)), new, added(old, 200_000, 2_000)).answer is Answer.PERSON
    now = added(counted(3_000, 5), 200_000, 20)
    assert judged(environment(past=counted(200_000, 20)), counted(1_000, 12), now).answer is Answer.PERSON


def added(traffic: Traffic, requests: int, errors: int) -> Traffic:
    past = counted(requests, errors)
    latency = tuple(a + b for a, b in zip(traffic.latency, past.latency, strict=True))
    return Traffic(
        requests=traffic.requests + requests, errors=traffic.errors + errors, latency=latency, began=1
    )  # fmt: skip


def test_a_percentile_over_its_limit() -> None:
    env = environment(Analysis(p99=500 * MILLISECOND))
    verdict = judged(env, counted(2_000, slow=90), None, EARLY)
    assert verdict.answer is Answer.FAIL
    assert verdict.reason.startswith(
        "p99 is over the limit of 500 ms (4.5 % of the requests took longer): errors 0 %"
    )
    assert judged(env, counted(2_000, slow=19), None).answer is Answer.PASS


def test_a_percentile_within_its_limit_that_is_worse_than_the_old_one() -> None:
    env = environment(Analysis(p99=500 * MILLISECOND))
    verdict = judged(env, counted(20_000, slow=180), counted(60_000, slow=30), EARLY)
    assert verdict.reason.startswith(
        "p99 is worse than the old release's: errors 0 % (old 0 %), p99 20 ms (old 20 ms)"
    )
    assert judged(env, counted(20_000, slow=30), counted(60_000, slow=30)).answer is Answer.PASS


def test_a_limit_between_two_bounds_counts_as_the_next_higher_one() -> None:
    env = environment(Analysis(p99=600 * MILLISECOND))  # counts as 700 ms
    assert judged(env, counted(2_000, slow=90, slow_at=700), None).answer is Answer.PASS
    verdict = judged(env, counted(2_000, slow=90, slow_at=1_000), None)
    assert "over the limit of 700 ms" in verdict.reason


def test_latencies_that_nobody_counts_are_no_evidence() -> None:
    env = environment(Analysis(p99=500 * MILLISECOND))
    verdict = judged(env, replace(counted(2_000), latency=()), None)
    assert verdict.answer is Answer.PERSON
    assert verdict.reason.startswith("the latency of 0 of the 50 requests that a verdict needs is known")


def test_a_metric_that_was_bad_already_does_not_hold_a_fix_up_and_this_is_said() -> None:
    """The old release fails 5 % of the time, the fix 3 %; the limit is 1 %."""
    env = environment()
    verdict = judged(env, counted(1_000, 30), counted(3_000, 150))
    assert verdict.answer is Answer.PASS
    assert verdict.reason.endswith(
        "; errors were over the limit of 1 % already (old 5 %), which does not count against the new release"
    )
    worse = judged(environment(replace(LIMIT, compare=False)), counted(1_000, 120), counted(3_000, 150))
    assert worse.reason.startswith("errors are worse than the old release's")
    # What is good by now is no excuse, nor what is not certain to be bad.
    past = counted(3_000, 150)
    verdict = judged(environment(past=past), counted(1_000, 60), added(counted(3_000, 15), 3_000, 150))
    assert verdict.reason.startswith("errors are over the limit")
    assert judged(env, counted(1_000, 60), counted(50, 1)).answer is Answer.FAIL


def test_a_fix_may_take_all_of_the_traffic_though_the_old_release_gets_none_any_more() -> None:
    env = environment()
    seen = Observation(as_of=OVER, applied=0, traffic={NEW.id: counted(1_000, 30), OLD.id: counted(3_000, 150)})
    assert analysis.excused(rollout_of(env), seen) == ("errors",)
    last: dict[str, Any] = {"step": 1, "intervals": 2}
    assert judged(environment(excused=("errors",), **last), counted(4_000, 120), None).answer is Answer.PASS
    assert judged(environment(**last), counted(4_000, 120), None).answer is Answer.FAIL
    was = counted(3_000, 150)
    assert judged(environment(past=was, **last), counted(4_000, 120), was).answer is Answer.PASS


def test_counts_that_are_not_told_decide_nothing() -> None:
    env, nothing = environment(past=counted(1_000, 3)), Observation(as_of=OVER, applied=0)
    verdict = analysis.judge(env, rollout_of(env), nothing, OVER)
    assert (verdict.answer, verdict.reason) == (Answer.WAIT, "what the router counted is not known")
    assert not analysis.begins_anew(env, rollout_of(env), nothing)
    assert not analysis.may_be_held(env, rollout_of(env), nothing)
    silent = environment(weight=0)
    assert analysis.may_be_held(silent, rollout_of(silent), nothing)
    assert analysis.told(rollout_of(env), nothing) == ""
    assert analysis.excused(rollout_of(environment(excused=("errors",))), nothing) == ("errors",)
    # Nor does an old release that was not counted when the step was held: its whole past is no interval.
    unknown = environment(baseline={NEW.id: Traffic()})
    assert judged(unknown, counted(1_000, 5), counted(90_000, 1)).answer is Answer.PASS


def test_counts_that_begin_anew_begin_the_step_anew_but_not_for_ever() -> None:
    past = counted(1_000, 3)
    anew = replace(counted(10), began=2)
    env = environment(past=past)
    seen = Observation(as_of=EARLY, applied=0, traffic={NEW.id: anew, OLD.id: anew})
    assert analysis.begins_anew(env, rollout_of(env), seen)
    verdict = judged(env, anew, anew)
    assert verdict.answer is Answer.WAIT
    assert "began to count anew" in verdict.reason
    often = environment(past=past, intervals=analysis.MOST_ANEW + 1)
    assert not analysis.begins_anew(often, rollout_of(often), seen)
    assert judged(often, anew, anew).answer is Answer.PERSON
    hurried = environment(past=past, hurried=True)
    assert not analysis.begins_anew(hurried, rollout_of(hurried), seen)


def test_a_first_deployment_waits_for_no_requests_and_can_still_fail() -> None:
    env = environment()
    first = replace(env, stable=None, rollout=replace(rollout_of(env), stable=None))
    assert judged(first, counted(3), None).answer is Answer.PASS
    assert judged(first, counted(100, 60), None).answer is Answer.FAIL


def test_a_release_without_traffic_is_not_judged_unless_users_were_chosen() -> None:
    env = environment(weight=0)
    assert judged(env, counted(100, 100), counted(3_000)) == Verdict(answer=Answer.PASS)
    strategy = replace(rollout_of(env).strategy, matches=(Match(kind=MatchKind.HEADER, name="x-canary"),))
    chosen = replace(env, rollout=replace(rollout_of(env), strategy=strategy))
    assert judged(chosen, counted(100, 100), counted(3_000)).answer is Answer.FAIL


def test_where_nothing_of_it_serves_nothing_is_judged() -> None:
    env, nothing = environment(), Observation(as_of=OVER, applied=0)
    recreate = replace(rollout_of(env).strategy, kind=StrategyKind.RECREATE, steps=())
    first = replace(env, rollout=replace(rollout_of(env), strategy=recreate, step=0))
    second = replace(env, rollout=replace(rollout_of(env), strategy=recreate, step=1))
    asleep = replace(second, wanted={"web": 0})
    for made, judged_ in ((first, False), (second, True), (asleep, False)):
        assert analysis.may_be_held(made, rollout_of(made), nothing) is not judged_
        verdict = analysis.judge(made, rollout_of(made), nothing, OVER)
        assert verdict.answer is (Answer.WAIT if judged_ else Answer.PASS)


def test_before_a_step_is_held_nothing_is_judged_and_afterwards_once_a_second() -> None:
    env = environment(held_at=None)
    assert judged(env, counted(1_000, 500), counted(3_000)) == Verdict(answer=Answer.PASS)
    assert analysis.next_look(env, EARLY) is None
    assert analysis.next_look(environment(), EARLY) == EARLY + SECOND
    assert analysis.next_look(environment(hurried=True), EARLY) is None


def test_the_last_step_asks_nobody_but_shows_requests_where_it_soaks() -> None:
    env = environment(step=1, intervals=2)
    assert judged(env, counted(3), None).answer is Answer.PASS
    strategy = replace(rollout_of(env).strategy, kind=StrategyKind.RECREATE, steps=())
    gate = replace(strategy.gate, soak=SOAK * SECOND)
    soaks = replace(env, rollout=replace(rollout_of(env), strategy=replace(strategy, gate=gate)))
    assert judged(soaks, counted(3), None).answer is Answer.PERSON


def test_the_error_probability_is_divided_and_never_exceeded() -> None:
    assert sum(findings.alpha(interval) for interval in range(1, 10_000)) <= findings.ALPHA
    assert findings.alpha(1) == 0.75 * findings.ALPHA
    assert pytest.approx(1) == findings.SAME_TIME + findings.PAST + findings.OTHERS
    first, third = environment(), environment(intervals=3)
    for errors, answers in ((12, (Answer.FAIL, Answer.PERSON)), (18, (Answer.FAIL, Answer.FAIL))):
        found = tuple(judged(env, counted(1_000, errors), counted(3_000, 4)).answer for env in (first, third))
        assert found == answers


@pytest.mark.parametrize(
    ("traffic", "told"),
    [
        (counted(100, slow=2), "600 ms"),
        (counted(100, at=1), "1 ms"),
        (counted(100, slow=50, slow_at=30_000), "30 s"),
        (Traffic(requests=5, latency=(0,) * len(BOUNDS) + (5,)), "over 60 s"),
        (Traffic(requests=5), "unknown"),
    ],
)
def test_percentiles_in_words(traffic: Traffic, told: str) -> None:
    assert metrics.latency(traffic, 0.99) == told


@pytest.mark.parametrize(("share", "told"), [(0, "0 %"), (0.0002, "0.02 %"), (0.021, "2.1 %"), (1, "100 %")])
def test_shares_in_words(share: float, told: str) -> None:
    assert metrics.percent(share) == told


@pytest.mark.parametrize(("weight", "soak", "least", "runs"), [(25, 20, 0.99, 1_000), (5, 60, 0.95, 400)])
def test_a_bad_canary_is_caught_in_time(weight: int, soak: int, least: float, runs: int) -> None:
    """2 % errors against 0.1 %, 200 requests a second, every metric judged (``python -m bench.canary`` has more)."""
    caught = [watch(random.Random(n), weights=(weight,), soak=soak, new=BAD, old=GOOD) for n in range(runs)]
    found = [one for one in caught if one.verdict.answer is Answer.FAIL]
    assert len(found) >= least * len(caught)
    assert all("errors are worse than the old release's" in one.verdict.reason for one in found)


def test_a_good_canary_is_left_alone() -> None:
    """``python -m bench.canary`` does so 20,000 times. With p99 exactly at its limit nothing is to spare."""
    even = replace(GOOD, slower=(0.5, 0.05, 0.01))
    runs = [
        watch(random.Random(n), weights=(5, 25, 50), soak=30, new=even, old=even, limits=LIMITS) for n in range(150)
    ]
    assert not [one for one in runs if one.verdict.answer is Answer.FAIL]
    assert sum(one.verdict.answer is Answer.PERSON for one in runs) <= 0.1 * len(runs)
