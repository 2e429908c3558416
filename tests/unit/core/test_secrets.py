"""Which versions of secrets a release has, what a revoked one stops, and how long its value is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import request, secrets
from stelae.core.evolve import evolve, evolve_all
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.environment import Environment
from stelae.domain.errors import InvalidInput, Refused
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.secret import SecretVersion
from stelae.domain.state import EnvironmentState
from stelae.domain.trust import Revocation
from tests.unit.core.fixtures import ROLLOUT, SHOP, V1, V2, WEB, WORKER, environment, one, state

IMAGE = Image(digest=V1.image, app="shop", processes=(WEB, WORKER), layers=(), size=1)
CONFIG: Environment = replace(environment(), secrets=("KEY", "PASSWORD"), secret_env=("KEY",))


def put(name: str, version: int) -> ev.SecretSet:
    return ev.SecretSet(name=name, version=version, file=f"{name}-{version}")


def taken(name: str, version: int, reason: str = "it leaked") -> ev.SecretRevoked:
    return ev.SecretRevoked(name=name, version=version, reason=reason)


SET = (put("KEY", 1), put("KEY", 2), put("PASSWORD", 1))


def with_secrets(*events: ev.Event, env: EnvironmentState | None = None) -> EnvironmentState:
    return evolve_all(env or EnvironmentState(id=SHOP, config=CONFIG), (*SET, *events), 9, "ana")


def having(release: Release = V1, **versions: int) -> Release:
    return replace(release, secrets=versions)


def test_versions_are_folded_with_who_and_when() -> None:
    env = with_secrets()
    assert dict(env.secrets) == {
        "KEY": (
            SecretVersion(version=1, file="KEY-1", actor="ana", at=9),
            SecretVersion(version=2, file="KEY-2", actor="ana", at=9),
        ),
        "PASSWORD": (SecretVersion(version=1, file="PASSWORD-1", actor="ana", at=9),),
    }
    after = evolve(env, taken("KEY", 1), 12, "ben")
    first, second = after.secrets["KEY"]
    assert first.revoked == Revocation(actor="ben", at=12, reason="it leaked")
    assert (first.wiped, second) == (False, env.secrets["KEY"][1])
    wiped = evolve(after, ev.SecretWiped(name="KEY", version=1), 13, "controller")
    assert wiped.secrets["KEY"] == (replace(first, wiped=True), second)
    assert wiped.secrets["PASSWORD"] == env.secrets["PASSWORD"]


def test_events_of_what_nobody_knows_change_nothing() -> None:
    env = with_secrets()
    for event in (taken("NONE", 1), taken("KEY", 3), ev.SecretWiped(name="NONE", version=1)):
        assert evolve(env, event, 9).secrets == env.secrets


def test_a_version_is_found_by_its_number() -> None:
    env = with_secrets()
    assert secrets.version_of(env, "KEY", 2) == env.secrets["KEY"][1]
    assert secrets.version_of(env, "KEY", 3) is None
    assert secrets.version_of(env, "NONE", 1) is None


def test_a_new_release_has_the_newest_that_was_not_revoked() -> None:
    assert secrets.chosen(with_secrets()) == {"KEY": 2, "PASSWORD": 1}
    assert secrets.chosen(with_secrets(taken("KEY", 2))) == {"KEY": 1, "PASSWORD": 1}
    assert secrets.chosen(with_secrets(put("KEY", 3), taken("KEY", 2))) == {"KEY": 3, "PASSWORD": 1}
    assert secrets.chosen(EnvironmentState(id=SHOP)) == {}
    env = with_secrets(env=EnvironmentState(id=SHOP, config=CONFIG, wanted={"web": 1}))
    made = request.release_of(env, IMAGE)
    assert (dict(made.secrets), made.secret_env) == ({"KEY": 2, "PASSWORD": 1}, ("KEY",))


@pytest.mark.parametrize(
    ("events", "name", "why"),
    [
        ((taken("PASSWORD", 1),), "PASSWORD", "every version of it was revoked"),
        ((taken("KEY", 1), taken("KEY", 2)), "KEY", "every version of it was revoked"),
    ],
)
def test_a_name_without_a_value(events: tuple[ev.Event, ...], name: str, why: str) -> None:
    with pytest.raises(InvalidInput) as told:
        secrets.chosen(with_secrets(*events))
    assert told.value.message == f"shop/test has no value for the secret {name}: {why}"
    assert told.value.hint == f"stelae secret set test {name}"


def test_a_name_that_was_never_set() -> None:
    with pytest.raises(InvalidInput) as told:
        secrets.chosen(EnvironmentState(id=SHOP, config=CONFIG))
    assert told.value.message == "shop/test has no value for the secret KEY: it was never set"


def test_versions_are_part_of_the_id_only_where_there_are_any() -> None:
    plain = Release(app="shop", environment="test", image=V1.image)
    assert plain.id == "r-" + plain.id[2:]
    assert replace(plain, secrets={}, secret_env=()).id == plain.id
    ids = {
        plain.id, having(plain, KEY=1).id, having(plain, KEY=2).id, having(plain, PASSWORD=1).id,
        replace(having(plain, KEY=1), secret_env=("KEY",)).id, having(plain, KEY=1, PASSWORD=1).id,
    }  # fmt: skip
    assert len(ids) == 6
    one_way, other = having(plain, A=1, B=2), having(plain, B=2, A=1)
    assert one_way.id == other.id
    assert replace(one_way, secret_env=("A", "B")).id == replace(one_way, secret_env=("B", "A")).id


def test_the_id_of_a_release_without_secrets_is_what_it_was_before_there_were_any() -> None:
    image = Digest(V1.image.replace(V1.image[7:], "0" * 64))
    plain = Release(app="a", environment="b", image=image)
    assert plain.id == "r-6x9hqjk49k9rep6t16h6t5yzb4khe4q94ffqavfe88ejnvhmcdat"


def test_a_release_with_a_revoked_version_is_refused_with_who_and_why() -> None:
    env = with_secrets(taken("KEY", 1))
    secrets.admit(env, having(KEY=2, PASSWORD=1))
    assert secrets.revocation(env, having(KEY=2, PASSWORD=1)) == ""
    assert secrets.revocation(env, having(KEY=7, OTHER=1)) == ""
    release = having(KEY=1, PASSWORD=1)
    with pytest.raises(Refused) as told:
        secrets.admit(env, release)
    why = f"version 1 of the secret KEY, which {release.id[:8]} has, was revoked by ana: it leaked"
    assert told.value.message == why
    assert told.value.hint == (
        f"deploy the image with the newest versions: stelae deploy test --image {release.image}"
    )


def test_a_rollback_goes_to_no_release_with_a_revoked_version() -> None:
    old, older = having(V2, KEY=1), having(V2, KEY=2)
    releases = {item.id: item for item in (V1, old, older)}
    env = with_secrets(env=state(releases=releases, stables=(older.id, old.id, V1.id)))
    assert request.last_good(env) == old
    assert request.ways_back(env) == [old.id, older.id]
    env = evolve(env, taken("KEY", 1), 9, "ana")
    assert request.last_good(env) == older
    assert request.ways_back(env) == [old.id, older.id]
    env = evolve(env, taken("KEY", 2, "too"), 9, "ana")
    with pytest.raises(Refused) as told:
        request.last_good(env)
    assert told.value.message.startswith("no earlier release of shop/test may come back: version 1 of the secret KEY")
    assert told.value.hint.endswith(old.image)


def test_users_are_the_releases_that_have_a_version() -> None:
    one_, two = having(V1, KEY=1), having(V2, KEY=1, PASSWORD=1)
    env = state(releases={one_.id: one_, two.id: two})
    assert secrets.users(env, "KEY", 1) == [one_.id, two.id]
    assert secrets.users(env, "PASSWORD", 1) == [two.id]
    assert secrets.users(env, "KEY", 2) == []
    assert secrets.users(env, "NONE", 1) == []


def test_what_is_held_is_what_may_be_launched_without_being_asked_for() -> None:
    assert secrets.held(EnvironmentState(id=SHOP)) == set()
    assert secrets.held(state()) == {V1.id}
    assert secrets.held(state(down=True)) == {V1.id}
    nothing = state(stable=None)
    assert secrets.held(nothing) == set()
    assert secrets.held(replace(nothing, rollout=ROLLOUT)) == {V2.id}
    assert secrets.held(replace(nothing, warm={V2.id: 5})) == {V2.id}
    assert secrets.held(state(one(InstanceId("web-1")), stable=None)) == {V1.id}
    launch = Action(verb=Verb.LAUNCH, number=8, instance=InstanceId("web-2"), release=V2.id, process="web")
    stop = Action(verb=Verb.STOP, number=9, instance=InstanceId("web-1"))
    assert secrets.held(replace(nothing, pending={"8": launch, "9": stop})) == {V2.id}


def test_a_revoked_value_may_go_when_nothing_that_is_held_has_it() -> None:
    release = having(V1, KEY=1)
    held = state(releases={release.id: release}, stable=release.id)
    env = with_secrets(taken("KEY", 1), taken("KEY", 2), taken("PASSWORD", 1), env=held)
    names = [(name, item.version) for name, item in secrets.wipeable(env)]
    assert names == [("KEY", 2), ("PASSWORD", 1)]
    env = evolve(env, ev.SecretWiped(name="KEY", version=2), 9)
    assert [name for name, _ in secrets.wipeable(env)] == ["PASSWORD"]
    assert list(secrets.wipeable(with_secrets(env=held))) == [], "what is not revoked stays"
    unknown = replace(env, stable=V2.id)  # of a release that nobody knows
    assert [(name, item.version) for name, item in secrets.wipeable(unknown)] == [("KEY", 1), ("PASSWORD", 1)]


def test_differences_are_told_by_version() -> None:
    assert secrets.differences(None, V1) == {}
    assert secrets.differences(None, having(KEY=1)) == {"KEY": (0, 1)}
    old, new = having(KEY=1, OLD=3, SAME=2), having(KEY=2, NEW=1, SAME=2)
    assert secrets.differences(old, new) == {"KEY": (1, 2), "NEW": (0, 1), "OLD": (3, 0)}
    assert list(secrets.differences(old, new)) == ["KEY", "NEW", "OLD"]
