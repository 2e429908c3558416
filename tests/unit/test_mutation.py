"""Mutation testing judges rightly: what survives without a reason fails, and no function is left out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mutation.run import Mutant, _asked, judge, reasons
from tests.mutation.workplace import CORE, PLACE, ROOT, module_of, undecorated


def mutants(killed: int, *alive: str) -> list[Mutant]:
    found = [("x", 1)] * killed + [(change, 0) for change in alive]
    return [Mutant(name="n", module="m", function="f", change=change, code=code) for change, code in found]


@pytest.mark.parametrize(
    ("found", "fails"),
    [
        (mutants(100), False),
        (mutants(98, "known"), False),
        (mutants(98, "new"), True),
        (mutants(98, "no reason"), True),
        (mutants(9, "known"), False),
        (mutants(8, "known"), True),
    ],
)
def test_what_survives_without_a_reason_fails_and_so_do_too_many(found: list[Mutant], fails: bool) -> None:
    listed = {("m", "f", "known"): "it does the same", ("m", "f", "no reason"): ""}
    assert judge(found, listed) == fails


def test_what_is_listed_and_does_not_survive_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(mutants(5), {("m", "f", "gone"): "why", ("other", "f", "x"): "not asked"}) == 0
    told = capsys.readouterr().out
    assert "does not survive: ('m', 'f', 'gone')" in told
    assert "other" not in told


def test_a_module_of_a_package_has_its_whole_name() -> None:
    place = PLACE / "mutants" / CORE
    assert [module_of(place / name) for name in ("decide.py.meta", "folds/acts.py.meta")] == ["decide", "folds.acts"]
    assert [_asked(name, ["fold", "folds"]) for name in ("fold", "folds.acts", "unfold")] == [True, True, False]
    listed = {module for module, _, _ in reasons()}
    assert all((ROOT / CORE / f"{module.replace('.', '/')}.py").is_file() for module in listed)


def test_every_reason_is_one() -> None:
    assert all(len(reason) > 15 for reason in reasons().values())


SOURCE = """
def more(f):
    return lambda: f() + 1

@more
@more
def f():
    return 1

class C:
    @property
    def p(self):
        return 5
"""


def test_a_decorator_becomes_a_call_below_its_function() -> None:
    changed = undecorated(SOURCE)
    names: dict[str, Any] = {}
    exec(changed, names)
    assert "@" not in changed
    assert (names["f"](), names["C"]().p) == (3, 5)


def test_no_function_of_the_core_is_left_out() -> None:
    for file in (ROOT / "src/stelae/core").rglob("*.py"):
        lines = undecorated(file.read_text()).splitlines()
        after = {
            lines[n + 1].strip().split(" ")[0] for n, line in enumerate(lines[:-1]) if line.lstrip().startswith("@")
        }
        assert after <= {"class"}, file.name
