"""Strategies in stelae.toml: what each key becomes, which go together, and how they are written again."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from stelae.domain.errors import InvalidInput
from stelae.domain.strategy import Analysis, Check, CheckKind, Gate, Match, MatchKind, Step, Strategy, StrategyKind
from stelae.domain.traffic import BOUNDS
from stelae.domain.units import HOUR, MILLISECOND, MINUTE, SECOND
from stelae.spec.document import parse
from stelae.spec.render import changes, environment_document
from stelae.spec.strategy_form import WORDS
from tests.unit.spec.samples import document, toml
from tests.unit.spec.test_refusals import lines

PLACE = "env.production.strategy"
JOB = {"job.smoke": {"command": ["smoke"]}}


def strategy(given: Any, more: dict[str, Any] | None = None) -> Strategy:
    [*_, production] = parse(toml(document({PLACE: given, **(more or {})}))).environments
    return production.strategy


def wrong(given: Any, more: dict[str, Any] | None = None) -> list[str]:
    return [line.removeprefix("stelae.toml: ") for line in lines({PLACE: given, **(more or {})})]


CANARY = {
    "kind": "canary",
    "steps": [5, {"weight": 25, "soak": "5m", "gate": "manual", "checks": ["errors"]}, 50],
    "soak": "60s",
    "job": "smoke",
    "preview": "next.example.com",
    "match": [{"header": "X-Beta", "value": "1"}, {"cookie": "beta"}],
    "sticky": True,
    "surge": "50%",
    "floor": "80%",
    "patience": "1h",
    "abort_on": {"error_rate": 0.01, "p50_ms": 50, "p99_ms": 500, "compare": False, "requests": 20},
    "checks": [
        {"name": "errors", "prometheus": "http://localhost:9090", "query": "x", "most": 0.5, "least": "-1"},
        {"name": "hook", "webhook": "https://x/y", "interval": "1s", "timeout": "2s", "failures": 3},
    ],
}


def test_each_key_arrives_where_it_belongs() -> None:
    usual = Gate(soak=MINUTE, job="smoke", checks=("errors", "hook"))
    own = Gate(soak=5 * MINUTE, manual=True, job="smoke", checks=("errors",))
    assert strategy(CANARY, JOB) == Strategy(
        kind=StrategyKind.CANARY,
        gate=usual,
        steps=(Step(weight=500, gate=usual), Step(weight=2500, gate=own), Step(weight=5000, gate=usual)),
        preview="next.example.com",
        matches=(
            Match(kind=MatchKind.HEADER, name="X-Beta", value="1"), Match(kind=MatchKind.COOKIE, name="beta"),
        ),
        sticky=True,
        surge=50,
        floor=80,
        patience=HOUR,
        analysis=Analysis(
            error_rate=10_000, p50=50 * MILLISECOND, p99=500 * MILLISECOND, compare=False, requests=20
        ),
        checks=(
            Check(
                name="errors", kind=CheckKind.PROMETHEUS, url="http://localhost:9090", query="x", least="-1",
                most="0.5",
            ),
            Check(
                name="hook", kind=CheckKind.WEBHOOK, url="https://x/y", interval=SECOND, timeout=2 * SECOND,
                failures=3,
            ),
        ),
    )  # fmt: skip


def test_a_batch_is_a_number_or_a_share() -> None:
    assert strategy({"batch": 2}) == Strategy(batch_count=2)
    assert strategy({"batch": "40%"}) == Strategy(batch=40)
    assert strategy({"surge": "0%", "floor": "50%"}) == Strategy(surge=0, floor=50)
    assert strategy("rolling") == strategy({}) == Strategy()


def test_a_step_may_take_away_what_is_usual() -> None:
    given = {"kind": "canary", "gate": "manual", "steps": [5, {"weight": 25, "gate": "auto", "soak": "0s"}]}
    assert [step.gate.manual for step in strategy(given).steps] == [True, False]


def test_a_first_step_for_chosen_users_only_has_no_share() -> None:
    given = {"kind": "canary", "steps": [0, 50], "match": [{"cookie": "beta"}]}
    assert [step.weight for step in strategy(given).steps] == [0, 5000]


@pytest.mark.parametrize("rate", [1, 0.000001, 1e-9, 0.1])
def test_a_rate_is_never_rounded_away(rate: float) -> None:
    analysis = strategy({"abort_on": {"error_rate": rate}}).analysis
    assert analysis is not None
    assert analysis.error_rate == max(1, round(rate * 1_000_000))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "canary"}, "steps: missing; a canary is made of steps, such as [5, 25, 50]"),
        ("canary", "steps: missing; a canary is made of steps, such as [5, 25, 50]"),
        ({"kind": "canary", "steps": []}, "steps: expected a list of 1 to 20 shares (percent)"),
        ({"kind": "canary", "steps": [5, 5]}, "steps[1]: expected more than the 5 % of the step before"),
        ({"kind": "canary", "steps": [5, {"weight": 4}]}, "steps[1].weight: expected more than the 5 %"),
        ({"kind": "canary", "steps": [100]}, "steps[0]: expected a share of the requests from 1 to 99"),
        ({"kind": "canary", "steps": [0, 5]}, "steps[0]: expected a share from 1 to 99; 0 only in a first step"),
        ({"kind": "canary", "steps": [5, 0], "match": [{"cookie": "b"}]}, "steps[1]: expected a share from 1"),
        ({"kind": "canary", "steps": ["5%"]}, "steps[0]: expected a share of the requests from 1 to 99"),
        ({"kind": "canary", "steps": [{"soak": "1s"}]}, "steps[0].weight: missing; expected a share"),
        ({"kind": "canary", "steps": [{"weight": 5, "wait": "1s"}]}, "steps[0].wait: unknown key"),
        ({"kind": "canary", "steps": [5], "batch": 2}, 'batch: only for the strategy "rolling", not for "canary"'),
        ({"steps": [5]}, 'steps: only for the strategy "canary", not for "rolling"'),
        ({"match": [{"cookie": "b"}]}, 'match: only for the strategy "canary"'),
        ({"sticky": True}, 'sticky: only for the strategy "canary"'),
        ({"preview": "x.example.com"}, 'preview: only for the strategies "canary" and "blue-green"'),
        ({"kind": "blue-green", "surge": "50%"}, 'surge: only for the strategies "rolling" and "canary"'),
        ({"kind": "recreate", "gate": "manual"}, 'gate: only for the strategies "rolling" and "canary" and'),
        ({"gate": "yes"}, 'gate: expected "manual" or "auto", got "yes"'),
        ({"batch": 0}, 'batch: expected a number of instances from 1 to 1000, or a share from "1%" to "100%"'),
        ({"surge": "0%"}, ""),
        ({"floor": "101%"}, 'floor: expected a share from "0%" to "100%"'),
        ({"abort_on": {"error_rate": 2}}, "abort_on.error_rate: expected a share above 0 and at most 1"),
        ({"abort_on": {"error_rate": float("nan")}}, "abort_on.error_rate: expected a finite number"),
        ({"abort_on": {"p95_ms": 0}}, "abort_on.p95_ms: expected a number of milliseconds"),
        ({"abort_on": {"errors": 1}}, "abort_on.errors: unknown key"),
        ({"job": "smoke"}, "job: expected the name of one of this file's jobs, got \"smoke\""),
        (
            {"kind": "canary", "steps": [{"weight": 5, "checks": ["eror"]}], "checks": [
                {"name": "error", "webhook": "http://x"}]},
            'steps[0].checks[0]: expected the name of one of this file\'s checks, got "eror". Did you mean "error"?',
        ),
        ({"kind": "canary", "steps": [5], "match": [{}]}, "match[0]: expected either header or cookie"),
        (
            {"kind": "canary", "steps": [5], "match": [{"header": "a", "cookie": "b"}]},
            "match[0]: expected either header or cookie",
        ),
        ({"checks": [{"name": "a"}]}, "checks[0]: expected either prometheus or webhook"),
        ({"checks": [{"name": "a", "prometheus": "http://x", "most": 1}]}, "checks[0].query: missing"),
        ({"checks": [{"name": "a", "prometheus": "http://x", "query": "y"}]}, "checks[0]: expected least or most"),
        (
            {"checks": [{"name": "a", "prometheus": "http://x", "query": "y", "least": 2, "most": 1}]},
            "checks[0].least: expected no more than most",
        ),
        (
            {"checks": [{"name": "a", "prometheus": "http://x", "query": "y", "least": float("inf")}]},
            "checks[0].least: expected a finite number",
        ),
        ({"checks": [{"name": "a", "webhook": "http://x", "most": 1}]}, "checks[0].most: only for prometheus"),
        ({"checks": [{"name": "a", "webhook": "http://x", "interval": "999ms"}]}, "checks[0].interval: expected at"),
        ({"checks": [{"name": "a", "webhook": "ftp://x"}]}, "checks[0].webhook: expected an address"),
        (
            {"checks": [{"name": "a", "webhook": "http://x"}, {"name": "a", "webhook": "http://y"}]},
            'checks[1].name: "a" is the name of another check already',
        ),
        ({"kind": "blue-green", "preview": "shop.staging.localhost"}, 'preview: "shop.staging.localhost" is a host'),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(given: Any, expected: str) -> None:
    found = wrong(given)
    if expected:
        assert found[0].startswith(f"{PLACE}.{expected}"), found
    else:
        text = "with a surge of 0% an old instance has to end before a new one begins"
        assert found == [f"{PLACE}.floor: expected less than 100%: {text}"]


def test_a_strategy_about_requests_needs_some() -> None:
    without = {"process": {"web": {"command": ["x"]}, "worker": {"command": ["y"]}}}
    assert wrong({"kind": "canary", "steps": [5]}, without) == [
        f"{PLACE}.kind: needs a process with a port: it is about requests"
    ]
    assert wrong({"abort_on": {"error_rate": 0.1}}, without) == [
        f"{PLACE}.abort_on: needs a process with a port: it is about requests"
    ]


def test_two_previews_are_two_names() -> None:
    given = {"kind": "blue-green", "preview": "next.example.com"}
    more = {"env.staging.strategy": given}
    assert wrong(given, more) == [f'{PLACE}.preview: "next.example.com" is a host of env.staging\'s preview already']


def test_what_stays_warm_needs_room() -> None:
    [line] = wrong({"surge": "50%"}, {"env.production.bake": "5m"})
    assert line == "env.production.bake: what stays warm needs as much room again; expected a surge of 100%"
    assert strategy({"kind": "blue-green"}, {"env.production.bake": "5m"})


@pytest.mark.parametrize("key", ["steps", "soak", "abort_on"])
def test_a_key_beside_the_strategy_is_sent_into_it(key: str) -> None:
    with pytest.raises(InvalidInput, match=f'{key}: unknown key here; it belongs into "strategy"'):
        parse(toml(document({f"env.production.{key}": 5})))


def test_a_strategy_is_written_in_the_words_that_it_was_read_from() -> None:
    [*_, production] = parse(toml(document({PLACE: CANARY, **JOB}))).environments
    told = environment_document(production)["strategy"]
    again = {name: _read_again(name, text) for name, text in told.items() if name != "batch"}
    assert strategy(again, JOB) == production.strategy
    assert environment_document(parse(toml(document())).environments[-1])["strategy"] == {
        "kind": "rolling", "batch": "25%", "min_healthy": "1s", "progress": "10m", "platform": "5m",
    }  # fmt: skip
    counted = parse(toml(document({PLACE: {"batch": 2}}))).environments[-1]
    assert environment_document(counted)["strategy"]["batch"] == "2"


def _read_again(name: str, text: str) -> Any:
    if name in ("steps", "match", "abort_on", "checks", "sticky"):
        return tomllib.loads(f"value = {text}")["value"]
    return text


def test_a_change_of_a_strategy_is_shown_key_by_key() -> None:
    old = parse(toml(document())).environments[-1]
    new = parse(toml(document({PLACE: {"kind": "canary", "steps": [5, 50], "soak": "60s"}}))).environments[-1]
    found = [(change.path, change.old, change.new) for change in changes(old, new)]
    assert found == [
        ("strategy.kind", "rolling", "canary"), ("strategy.steps", "", "[5, 50]"), ("strategy.soak", "", "1m"),
    ]  # fmt: skip


def test_a_latency_beyond_what_is_counted_is_no_limit() -> None:
    """The router counts up to the last bound: a higher limit would never be broken."""
    assert WORDS["milliseconds"]["maximum"] * MILLISECOND == BOUNDS[-1]
