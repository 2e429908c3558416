from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.release import Release, ReleaseId
from stelae.platforms.kubernetes import names
from tests.unit.kubernetes.things import ENVIRONMENT, RELEASE

LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035, which the names of Services keep to
NAME = st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True)
PROCESS = st.from_regex(r"[a-z][a-z0-9-]{0,19}", fullmatch=True)
RELEASES = st.binary(max_size=4).map(lambda data: Release(app="a", environment="b", image=digest_of(data)).id)


def test_names_tell_a_person_what_they_are_of() -> None:
    short = RELEASE.id[2:12]
    assert names.set_name(ENVIRONMENT, RELEASE.id, "web") == f"guestbook-production-web-{short}"
    assert names.service_name(ENVIRONMENT, "web") == "guestbook-production-web"
    assert names.service_name(ENVIRONMENT, "web", RELEASE.id) == names.set_name(ENVIRONMENT, RELEASE.id, "web")
    assert names.service_name(EnvironmentId("my-shop/live"), "web") == "my-shop--live--web"
    assert names.route_name(ENVIRONMENT) == "guestbook-production-all"
    assert names.run_name(ENVIRONMENT, "migrate-c04xvt-1") == "guestbook-production-migrate-c04xvt-1"
    assert re.fullmatch("guestbook-production-settings-[a-z0-9]{10}", names.settings_name(RELEASE))
    assert re.fullmatch("guestbook-production-secrets-[a-z0-9]{10}", names.secret_name(RELEASE))


@given(NAME, NAME, PROCESS, RELEASES)
def test_every_name_is_one_that_kubernetes_takes(app: str, name: str, process: str, release: ReleaseId) -> None:
    env = EnvironmentId(f"{app}/{name}")
    found = names.set_name(env, release, process)
    assert len(f"{found}-0123456789-01234") <= 63  # its pods: nothing is cut off them
    run = f"{process}-c04xvt-12345"
    assert len(names.run_name(env, run)) <= 57
    held = Release(app=app, environment=name, image=digest_of(b""), settings={"A": "b"}, secrets={"c": 1})
    for text in (
        found, names.service_name(env, process), names.budget_name(env, process), names.route_name(env),
        names.route_name(env, "a.example.com"), names.run_name(env, run), names.settings_name(held),
        names.secret_name(held),
    ):  # fmt: skip
        assert LABEL.fullmatch(text), text


WORDS = ("a", "b", "a-b", "b-c", "a-", "-".join("ab" * 12), "a--b", "b--c", "b-c--d", "c--b--d")


def test_no_two_things_have_the_same_name() -> None:
    for made in (names.service_name, names.run_name):
        found = [made(EnvironmentId(f"{app}/{name}"), last) for app, name, last in itertools.product(WORDS, repeat=3)]
        assert len(set(found)) == len(found)


def test_a_set_of_another_process_or_release_has_another_name_however_long_its_words_are() -> None:
    env = EnvironmentId(f"{'a' * 31}/{'b' * 31}")
    other = Release(app="a", environment="b", image=digest_of(b"other")).id
    found = {names.set_name(env, release, "x" * 19 + end) for release in (RELEASE.id, other) for end in "yz"}
    assert len(found) == 4


def test_settings_and_secrets_are_called_by_what_they_are() -> None:
    assert names.settings_name(RELEASE) == names.settings_name(replace(RELEASE, image=digest_of(b"other")))
    assert names.settings_name(RELEASE) != names.settings_name(replace(RELEASE, settings={"GREETING": "b"}))
    assert names.settings_name(RELEASE) != names.settings_name(replace(RELEASE, environment="testing"))
    assert names.secret_name(RELEASE) == names.secret_name(replace(RELEASE, settings={}))
    assert names.secret_name(RELEASE) != names.secret_name(replace(RELEASE, secrets={"API_KEY": 4, "token.json": 1}))


def test_labels_say_whose_an_object_is() -> None:
    found = names.labels("stelae", ENVIRONMENT, RELEASE.id, "web")
    assert found == {
        "app.kubernetes.io/name": "guestbook",
        "app.kubernetes.io/instance": "guestbook-production",
        "app.kubernetes.io/component": "web",
        "app.kubernetes.io/managed-by": "stelae",
        "app.kubernetes.io/version": RELEASE.id[:8],
        "stelae.dev/installation": "stelae",
        "stelae.dev/app": "guestbook",
        "stelae.dev/environment": "production",
        "stelae.dev/process": "web",
        "stelae.dev/release": RELEASE.id,
    }
    assert names.PROCESS not in names.run_labels("stelae", ENVIRONMENT, RELEASE.id, "migrate-c04xvt-1")
    assert names.selector("stelae") == "stelae.dev/installation=stelae"


@given(NAME, NAME, PROCESS)
def test_every_label_is_one_that_kubernetes_takes_or_is_refused(app: str, name: str, process: str) -> None:
    try:
        found = names.labels("stelae", EnvironmentId(f"{app}/{name}"), RELEASE.id, process)
    except InvalidInput:
        assert any(word.endswith("-") for word in (app, name, process))
    else:
        assert all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text) for text in found.values())


def test_a_name_that_ends_in_a_hyphen_cannot_be_a_label() -> None:
    with pytest.raises(InvalidInput, match="cannot end in a hyphen"):
        names.labels("stelae", EnvironmentId("shop-/testing"))
