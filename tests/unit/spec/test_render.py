"""Environments in words, and what changes between two."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.environment import Environment
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.domain.trust import Requirement
from stelae.domain.units import MINUTE
from stelae.spec.document import parse
from stelae.spec.render import Change, changes, environment_document
from tests.unit.spec.samples import ABSENT, document, toml

ENV = Environment(
    app="shop", name="production", processes={"web": 3, "api": 1}, settings={"B": "2", "A": "1"},
    hosts=("shop.example.com",), bake=10 * MINUTE, promote_from="staging",
)  # fmt: skip


def test_the_document_is_what_a_spec_would_say() -> None:
    made = environment_document(ENV)
    assert made == {
        "processes": {"api": 1, "web": 3},
        "settings": {"A": "1", "B": "2"},
        "hosts": ["shop.example.com"],
        "strategy": {"kind": "rolling", "batch": "25%", "min_healthy": "1s", "progress": "10m", "platform": "5m"},
        "bake": "10m",
        "promote_from": "staging",
        "require": [],
        "secrets": [],
        "secret_env": [],
        "verify_for": "",
        "approvals": 0,
        "approvers": [],
        "freeze": [],
        "notify": [],
        "drift": "replace",
        "drift_storm": "30%",
        "platform": {"kind": "local"},
    }
    assert list(made["settings"]) == ["A", "B"]


def test_a_rendered_environment_reads_back_the_same() -> None:
    spec = parse(toml(document({"env.production.settings": {"A": "x"}, "env.production.strategy": "blue-green"})))
    for env in spec.environments:
        body = {key: value for key, value in environment_document(env).items() if value != ""}
        if env.strategy.kind is not StrategyKind.ROLLING:
            del body["strategy"]["batch"]
        others = {
            f"env.{other.name}": ABSENT for other in spec.environments if other.name not in (env.name, "staging")
        }
        again = parse(toml(document({**others, f"env.{env.name}": body})))
        assert env in again.environments


def test_nothing_changes_between_equals() -> None:
    assert changes(ENV, replace(ENV, settings={"A": "1", "B": "2"})) == ()
    assert changes(None, None) == ()


def test_changes_are_told_in_the_words_of_a_spec() -> None:
    new = replace(
        ENV,
        processes={"web": 4},
        settings={"A": "", "C": "3"},
        hosts=("shop.example.com", "www.shop.example.com"),
        strategy=Strategy(kind=StrategyKind.BLUE_GREEN),
        bake=0,
        promote_from="",
    )
    assert changes(ENV, new) == (
        Change(path="processes.web", old="3", new="4"),
        Change(path="settings.A", old="1", new='""'),
        Change(path="settings.C", old="", new="3"),
        Change(path="hosts", old="shop.example.com", new="shop.example.com, www.shop.example.com"),
        Change(path="strategy.kind", old="rolling", new="blue-green"),
        Change(path="bake", old="10m", new="0s"),
        Change(path="processes.api", old="1", new=""),
        Change(path="settings.B", old="2", new=""),
        Change(path="promote_from", old="staging", new=""),
    )


def test_a_new_environment_is_all_new_and_a_gone_one_all_gone() -> None:
    made, gone = changes(None, ENV), changes(ENV, None)
    assert {change.path for change in made} == {change.path for change in gone}
    assert all(change.old == "" and change.new for change in made)
    assert all(change.new == "" and change.old for change in gone)


def test_a_setting_that_looks_like_no_setting_is_still_a_change() -> None:
    assert changes(replace(ENV, settings={"A": ""}), replace(ENV, settings={"A": '""'}))
    assert changes(replace(ENV, settings={}), replace(ENV, settings={"A": ""}))


ENVIRONMENTS = st.builds(
    Environment,
    app=st.just("shop"),
    name=st.just("x"),
    processes=st.dictionaries(st.sampled_from(["web", "worker"]), st.integers(0, 3)),
    settings=st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["", "1", '""'])),
    hosts=st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    strategy=st.builds(Strategy, kind=st.sampled_from(StrategyKind), batch=st.integers(1, 100)),
    bake=st.integers(0, 2**40),
    promote_from=st.sampled_from(["", "y"]),
    require=st.sampled_from([(), (Requirement.SIGNATURE,), (Requirement.SIGNATURE, Requirement.SBOM)]),
)


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_there_are_changes_exactly_when_two_differ(one: Environment, other: Environment) -> None:
    assert (changes(one, other) == ()) == (one == other)
