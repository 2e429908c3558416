"""``processes`` with limits and targets: what is read, what is refused, and what is shown of it."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.domain.errors import InvalidInput
from stelae.domain.scaling import DOWN, UP, Pace, Scaling
from stelae.domain.units import MINUTE, SECOND
from stelae.spec import schema
from stelae.spec.document import parse
from stelae.spec.render import Change, changes, environment_document
from tests.unit.spec.samples import document, toml

PATH = "env.testing.processes.web"


def environment(count: Any) -> Any:
    return parse(toml(document({PATH: count}))).environments[0]


def lines(count: Any, path: str = PATH) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse(toml(document({path: count})))
    return [str(caught.value), *caught.value.details]


def test_the_defaults_are_those_of_the_domain() -> None:
    made = environment({"min": 3, "max": 12, "target_rps": 200})
    assert made.processes == {"web": 3, "worker": 1}
    assert made.scaling == {"web": Scaling(least=3, most=12, target_rps=200)}
    assert made.scaling["web"].up is not None
    assert (made.scaling["web"].up, made.scaling["web"].down) == (UP, DOWN)


def test_everything_can_be_said() -> None:
    made = environment({
        "min": 1, "max": 1000, "target_cpu": "70%", "target_rps": 5, "tolerance": "25%",
        "up": {"window": "10s", "share": "300%", "count": 7, "period": "2s"},
        "down": {"window": "1h", "count": 1},
    })  # fmt: skip
    assert made.scaling["web"] == Scaling(
        least=1, most=1000, target_cpu=70, target_rps=5, tolerance=25,
        up=Pace(window=10 * SECOND, share=300, count=7, period=2 * SECOND),
        down=Pace(window=60 * MINUTE, share=0, count=1, period=MINUTE),
    )  # fmt: skip


def test_a_share_that_is_given_stands_alone() -> None:
    made = environment({"min": 1, "max": 9, "target_rps": 5, "up": {"share": "50%"}, "down": {"window": "1s"}})
    assert made.scaling["web"].up == Pace(share=50, period=UP.period)
    assert made.scaling["web"].down == Pace(window=SECOND, share=DOWN.share, period=DOWN.period)


def test_a_number_is_not_scaled() -> None:
    assert environment(4).scaling == {}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ({"min": 1, "max": 2}, ": expected target_rps or target_cpu beside min and max"),
        ({"min": 5, "max": 2, "target_rps": 1}, ".max: expected a number of at least 5, which is min, got 2"),
        ({"min": 0, "max": 2, "target_rps": 1}, ".min: expected a number from 1 to 1000, got 0"),
        ({"min": 1, "max": 1001, "target_rps": 1}, ".max: expected a number from 1 to 1000, got 1001"),
        ({"max": 2, "target_rps": 1}, ".min: missing; expected a number from 1 to 1000"),
        ({"min": 1, "max": 2, "target_rps": 0}, ".target_rps: expected a number from 1 to 1000000, got 0"),
        ({"min": 1, "max": 2, "target_cpu": 70}, '.target_cpu: expected a share from "1%" to "100%", got 70'),
        ({"min": 1, "max": 2, "target": 70, "target_rps": 1}, '.target: unknown key. Did you mean "target_rps"?'),
        (
            {"min": 1, "max": 2, "target_rps": 1, "up": {"window": "61m"}},
            ".up.window: expected at most 1h, got 61m",
        ),
        (
            {"min": 1, "max": 2, "target_rps": 1, "down": {"period": "2h"}},
            ".down.period: expected at most 1h, got 2h",
        ),
        (
            {"min": 1, "max": 2, "target_rps": 1, "down": {"share": "101%"}},
            ".down.share: expected at most 100%: no more than all can go",
        ),
        (-1, f": expected {schema.SCHEMA['$defs']['count']['title']}, got -1"),
    ],
)
def test_what_makes_no_sense_is_told_once(count: Any, expected: str) -> None:
    (line,) = lines(count)
    assert line == f"stelae.toml: {PATH}{expected}"


def test_a_process_without_requests_is_scaled_by_its_processor_only() -> None:
    (line,) = lines({"min": 1, "max": 2, "target_rps": 1}, "env.testing.processes.worker")
    assert line.endswith("worker.target_rps: only for a process with a port; this one gets no requests")
    made = parse(toml(document({"env.testing.processes.worker": {"min": 1, "max": 2, "target_cpu": "50%"}})))
    assert made.environments[0].scaling["worker"].target_cpu == 50


def test_what_is_shown_reads_back_the_same() -> None:
    for count in (
        {"min": 3, "max": 12, "target_rps": 200},
        {"min": 1, "max": 2, "target_cpu": "5%", "tolerance": "1%", "up": {"share": "9999%"}, "down": {"count": 3}},
    ):
        made = environment(count)
        again = environment(environment_document(made)["processes"]["web"])
        assert again == made


def test_each_value_that_differs_is_a_line() -> None:
    old, new = environment(2), environment({"min": 3, "max": 12, "target_rps": 200})
    assert changes(old, new) == (
        Change(path="processes.web", old="2", new="3 to 12"),
        Change(path="processes.web.target_rps", old="", new="200"),
        Change(path="processes.web.tolerance", old="", new="10%"),
        Change(path="processes.web.up", old="", new="window 0s, share 100%, count 20, period 5s"),
        Change(path="processes.web.down", old="", new="window 5m, share 50%, period 1m"),
    )
    more = environment({"min": 3, "max": 15, "target_rps": 250})
    assert changes(new, more) == (
        Change(path="processes.web", old="3 to 12", new="3 to 15"),
        Change(path="processes.web.target_rps", old="200", new="250"),
    )
