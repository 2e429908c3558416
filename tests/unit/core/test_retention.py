"""What garbage collection must leave, as a table of lives."""

from __future__ import annotations

import pytest

from stelae.core.retention import KEEP_AGE, KEEP_COUNT, image_roots
from stelae.domain.release import Release
from stelae.domain.state import Deployment, DeploymentKind, EnvironmentState, Outcome
from stelae.domain.units import HOUR
from stelae.testing.world import World
from tests.unit.core.fixtures import SHOP, deployed, release

LATE = 100 * KEEP_AGE


def _kept(made: World, names: list[str]) -> list[str]:
    roots = image_roots(made.env, made.now)
    return [name for name in names if release(name).image in roots]


def _deploy(made: World, what: Release, kind: DeploymentKind = DeploymentKind.DEPLOY) -> None:
    made.request(what, kind=kind)
    made.run(seconds=120)


def test_an_empty_environment_needs_nothing() -> None:
    config = deployed().env.config
    assert config is not None
    assert image_roots(World.of(config).env, 0) == frozenset()


def test_the_last_releases_are_kept_however_old_and_older_ones_are_not() -> None:
    made = deployed(first="v0")
    names = [f"v{number}" for number in range(KEEP_COUNT + 3)]
    for name in names[1:]:
        _deploy(made, release(name))
    made.now += LATE
    assert _kept(made, names) == names[-KEEP_COUNT:]


def test_young_releases_are_kept_however_many() -> None:
    made = deployed(first="v0")
    names = [f"v{number}" for number in range(KEEP_COUNT + 3)]
    for name in names[1:]:
        _deploy(made, release(name))
    made.now += KEEP_AGE - HOUR
    assert _kept(made, names) == names


def test_deploying_by_turns_uses_up_no_places() -> None:
    made = deployed(first="v0")
    for number in range(2 * KEEP_COUNT):
        _deploy(made, release(f"v{1 + number % 2}"))
    made.now += LATE
    assert _kept(made, ["v0", "v1", "v2"]) == ["v0", "v1", "v2"]


def test_a_release_that_never_succeeded_is_needed_only_while_it_is_tried() -> None:
    made = deployed(first="v1")
    made.behave(release("v2"), ready_after=None)
    made.request(release("v2"))
    made.run(seconds=1)
    assert _kept(made, ["v1", "v2"]) == ["v1", "v2"]
    made.run(seconds=600)
    assert _kept(made, ["v1", "v2"]) == ["v1"]


def test_what_a_rollback_left_and_where_it_went_are_kept() -> None:
    made = deployed(first="v1")
    _deploy(made, release("v2"))
    _deploy(made, release("v1"), DeploymentKind.ROLLBACK)
    made.now += LATE
    assert _kept(made, ["v1", "v2"]) == ["v1", "v2"]


def _state(done: list[tuple[str, int, Outcome]], stables: list[str]) -> EnvironmentState:
    """A state with these deployments (release, time, outcome) and these releases that were stable."""
    deployments = {
        f"d-{number}": Deployment(
            id=f"d-{number}", kind=DeploymentKind.DEPLOY, release=release(name).id, actor="", requested_at=at,
            outcome=outcome,
        )
        for number, (name, at, outcome) in enumerate(done)
    }  # fmt: skip
    releases = {release(name).id: release(name) for name in [*stables, *(name for name, _, _ in done)]}
    return EnvironmentState(
        id=SHOP, releases=releases, deployments=deployments, stables=tuple(release(name).id for name in stables)
    )


def _roots(env: EnvironmentState, now: int) -> set[str]:
    names = [f"{letter}{number}" for letter in "vw" for number in range(2 * KEEP_COUNT)]
    return {name for name in names if release(name).image in image_roots(env, now)}


def test_the_last_ones_that_were_stable_are_kept_whatever_was_tried_since() -> None:
    stables = [f"v{number}" for number in range(KEEP_COUNT + 2)]
    tried = [(f"w{number}", number, Outcome.SUCCEEDED) for number in range(KEEP_COUNT)]
    found = _roots(_state(tried, stables), now=LATE)
    assert found == {*stables[2:], *(name for name, _, _ in tried)}


@pytest.mark.parametrize(("age", "kept"), [(KEEP_AGE - 1, True), (KEEP_AGE, True), (KEEP_AGE + 1, False)])
def test_a_release_is_young_for_so_long(age: int, kept: bool) -> None:
    newer = [(f"w{number}", LATE + number, Outcome.SUCCEEDED) for number in range(1, KEEP_COUNT + 1)]
    env = _state([("v0", LATE, Outcome.SUCCEEDED), ("v1", LATE, Outcome.REVERTED), *newer], [])
    assert ("v0" in _roots(env, now=LATE + age)) is kept
    assert "v1" not in _roots(env, now=LATE)
