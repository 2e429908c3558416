"""Checks outside: whom to ask when, and what the answers come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import checks
from stelae.core.evolve import evolve
from stelae.core.verdict import Answer, Verdict
from stelae.domain import event as ev
from stelae.domain.check import CheckState, CheckVerdict
from stelae.domain.environment import EnvironmentId
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.strategy import Analysis, Check, CheckKind, Gate, Step
from stelae.domain.units import SECOND, Instant
from stelae.testing.canary import BEGINNING, NEW, OLD, begun

QUERY = Check(
    name="p", kind=CheckKind.PROMETHEUS, url="http://x", most="5",
    query='errors{release="{{release}}", stable="{{stable}}", environment="{{environment}}"}',
)  # fmt: skip
HOOK = Check(name="w", kind=CheckKind.WEBHOOK, url="http://y", interval=3 * SECOND, failures=1)
PASS, FAIL, WAIT, SILENT = CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.WAIT, CheckVerdict.SILENT


def environment(*wanted: Check, **more: Any) -> EnvironmentState:
    """A canary whose first step waits for these checks; the second waits for none."""
    env = begun((5, 25), 60, Analysis())
    gate = Gate(checks=tuple(check.name for check in wanted))
    strategy = replace(
        rollout_of(env).strategy,
        analysis=None,
        checks=(QUERY, HOOK),
        steps=(Step(weight=500, gate=gate), Step(weight=2_500)),
    )
    return replace(env, rollout=replace(rollout_of(env), strategy=strategy, **more))


def rollout_of(env: EnvironmentState) -> Rollout:
    assert env.rollout is not None
    return env.rollout


def said(
    env: EnvironmentState, check: Check, *verdicts: CheckVerdict, step: int = 0, at: Instant = BEGINNING
) -> EnvironmentState:
    for verdict in verdicts:
        event = ev.CheckMeasured(deployment="d-2", step=step, check=check.name, verdict=verdict, reason=f"{verdict}!")
        env = evolve(env, event, at)
    return env


def held(*wanted: Check) -> EnvironmentState:
    env = environment(*wanted, held_at=BEGINNING)
    return said(env, QUERY, PASS, step=checks.BASELINE)


def verdict(env: EnvironmentState) -> Verdict:
    return checks.gate(env, rollout_of(env), rollout_of(env).strategy.steps[rollout_of(env).step].gate, BEGINNING)


def asked(env: EnvironmentState, now: Instant = BEGINNING) -> list[tuple[str, int, Instant]]:
    return [(due.check.name, due.step, due.at) for due in checks.due(env, now)]


def test_before_anything_else_a_query_is_asked_about_the_old_release_once() -> None:
    for phase in (Phase.PREPARING, Phase.FORWARD):
        assert asked(environment(QUERY, HOOK, phase=phase)) == [("p", checks.BASELINE, BEGINNING)]
    (due,) = checks.due(environment(QUERY), BEGINNING)
    assert due.query == f'errors{{release="{OLD.id}", stable="{OLD.id}", environment="shop/test"}}'
    assert not asked(said(environment(QUERY), QUERY, SILENT, step=checks.BASELINE))
    assert not asked(environment(QUERY, phase=Phase.WAITING))
    assert not asked(environment(QUERY, phase=Phase.REVERTING))
    assert not asked(environment(QUERY, stable=None))


def test_what_a_step_waits_for_is_asked_again_and_again_while_it_is_held() -> None:
    env = held(QUERY, HOOK)
    assert asked(env) == [("p", 0, BEGINNING), ("w", 0, BEGINNING)]
    assert checks.due(env, BEGINNING)[0].query.startswith(f'errors{{release="{NEW.id}", stable="{OLD.id}"')
    env = said(env, HOOK, WAIT, at=BEGINNING)
    assert asked(env, BEGINNING + 1)[1] == ("w", 0, BEGINNING + 3 * SECOND)
    assert asked(env, BEGINNING - 9 * SECOND)[1] == ("w", 0, BEGINNING - 6 * SECOND)  # the clock was put back
    assert not asked(replace(env, rollout=replace(rollout_of(env), hurried=True)))
    assert asked(held(HOOK)) == [("w", 0, BEGINNING)]
    assert not asked(replace(env, rollout=replace(rollout_of(env), step=1)))


def test_what_is_put_into_a_query_cannot_end_its_string() -> None:
    env = replace(environment(QUERY), id=EnvironmentId('a"} or vector(1) #\\'))
    (due,) = checks.due(env, BEGINNING)
    assert due.query.endswith('environment="a\\x22} or vector(1) #\\x5c"}')


def test_a_webhook_is_told_what_it_judges() -> None:
    facts = checks.due(held(HOOK), BEGINNING)[0].facts
    assert facts == {
        "check": "w", "environment": "shop/test", "deployment": "d-2", "step": 0, "release": NEW.id,
        "image": NEW.image, "stable": OLD.id,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "answer", "reason"),
    [
        ((), Answer.WAIT, "check p was not asked yet"),
        ((PASS,), Answer.PASS, "check p passes: pass!"),
        ((FAIL,), Answer.WAIT, "check p is not sure yet: fail!"),
        ((FAIL, FAIL), Answer.FAIL, "check p failed 2 times in a row: fail!"),
        ((FAIL, SILENT, FAIL), Answer.FAIL, "check p failed 2 times in a row: fail!"),
        ((FAIL, PASS, FAIL), Answer.WAIT, "check p is not sure yet: fail!"),
        ((FAIL, WAIT, FAIL), Answer.WAIT, "check p is not sure yet: fail!"),
        ((WAIT,), Answer.WAIT, "check p is not sure yet: wait!"),
        ((SILENT,), Answer.WAIT, "check p is not sure yet: silent!"),
        ((PASS, SILENT, SILENT), Answer.PERSON, "check p gives no answer: silent!"),
        ((SILENT, SILENT, PASS), Answer.PASS, "check p passes: pass!"),
    ],
)
def test_what_answers_come_to(answers: tuple[CheckVerdict, ...], answer: Answer, reason: str) -> None:
    assert verdict(said(held(QUERY), QUERY, *answers)) == Verdict(answer=answer, reason=reason)


def test_one_failure_is_enough_where_one_is_allowed_and_it_beats_everything() -> None:
    assert verdict(said(held(QUERY, HOOK), HOOK, FAIL)).answer is Answer.FAIL  # the query is still waited for
    env = said(said(held(QUERY, HOOK), HOOK, FAIL), QUERY, SILENT, SILENT)
    assert verdict(env) == Verdict(answer=Answer.FAIL, reason="check w failed: fail!")
    assert verdict(said(env, HOOK, WAIT)).answer is Answer.WAIT
    assert verdict(said(env, HOOK, PASS)).answer is Answer.PERSON
    both = said(env, HOOK, PASS)
    assert verdict(said(both, QUERY, PASS)).reason == "check p passes: pass!; check w passes: pass!"
    assert verdict(held()) == Verdict(answer=Answer.PASS)


def test_what_failed_for_the_old_release_too_holds_no_fix_up_and_says_so() -> None:
    env = environment(QUERY, held_at=BEGINNING)
    assert verdict(env).reason == "check p was not asked about the old release yet"
    env = said(env, QUERY, FAIL, step=checks.BASELINE)
    assert verdict(env).answer is Answer.WAIT
    found = verdict(said(env, QUERY, FAIL, FAIL, FAIL))
    assert found.answer is Answer.PASS
    assert found.reason == (
        "check p fails: fail!, as it did for the old release, which does not count against the new one"
    )
    assert verdict(said(env, QUERY, FAIL, PASS)).reason == "check p passes: pass!"


def test_answers_of_another_step_or_deployment_do_not_count() -> None:
    env = said(held(QUERY), QUERY, FAIL)
    assert rollout_of(said(env, QUERY, FAIL, step=1)).checks == rollout_of(env).checks
    stranger = ev.CheckMeasured(deployment="d-1", step=0, check="p", verdict=FAIL)
    assert evolve(env, stranger, BEGINNING) == env
    second = replace(env, rollout=replace(rollout_of(env), step=1))
    known = rollout_of(said(second, QUERY, FAIL, step=1, at=BEGINNING + 5)).checks["p"]
    assert known == CheckState(based=True, step=1, asked_at=BEGINNING + 5, failures=1, words="fail!")
    assert evolve(replace(env, rollout=None), stranger, BEGINNING).rollout is None


@pytest.mark.parametrize(
    ("least", "most", "value", "verdict", "words"),
    [
        ("", "5", "5", PASS, "5"),
        ("", "5", "5.000000001", FAIL, "5.000000001 is above 5"),
        ("0.99", "", "0.98999", FAIL, "0.98999 is below 0.99"),
        ("0.99", "1", "1", PASS, "1"),
        ("", "5", "+Inf", FAIL, "+Inf is above 5"),
        ("", "5", "-Inf", PASS, "-Inf"),
        ("", "5", "NaN", SILENT, "'NaN' is no number"),
        ("", "5", "many", SILENT, "'many' is no number"),
        ("", "5", "1e400", FAIL, "1e400 is above 5"),
    ],
)
def test_a_number_against_its_limits(least: str, most: str, value: str, verdict: CheckVerdict, words: str) -> None:
    assert checks.judged(replace(QUERY, least=least, most=most), value) == (verdict, words)


def test_what_is_recorded_is_one_short_line_that_can_be_printed() -> None:
    assert checks.cut("a\x1b[2J\nb") == "a [2J b"
    assert len(checks.cut("x" * 10_000)) == checks.LONGEST_WORDS


def test_what_a_check_says_later_changes_no_state_that_somebody_kept() -> None:
    kept = said(said(environment(QUERY), QUERY, PASS), QUERY, FAIL)
    before = dict(rollout_of(kept).checks)
    said(kept, QUERY, FAIL)
    assert rollout_of(kept).checks == before
    assert type(rollout_of(kept).checks) is dict
