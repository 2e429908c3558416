"""What was taken back: an image by itself, or by every key that signed it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import fold, request, trust
from stelae.domain import event as ev
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Refused
from stelae.domain.event import Event, Recorded
from stelae.domain.state import EnvironmentState, InstallationState
from tests.unit.core.fixtures import admit, environment, release

V1, V2, V3 = release("v1"), release("v2"), release("v3")
ONE, TWO = V1.image, V2.image
OLD, NEW = "k-" + "0" * 52, "k-" + "1" * 52


def after(*events: Event) -> InstallationState:
    state = InstallationState()
    for index, event in enumerate(events):
        state = fold.apply(state, Recorded(index=index, at=index * 10, actor="ana", event=event))
    return state


def signed(image: Digest, key: str, commit: str = "c") -> ev.ImageAttested:
    return ev.ImageAttested(image=image, key=key, commit=commit)


def test_an_image_that_was_revoked_says_by_whom_and_why() -> None:
    state = after(signed(ONE, OLD), ev.Revoked(name=ONE, reason="CVE-1"))
    assert trust.revocation(state, ONE) == f"image {ONE[7:19]} was revoked by ana: CVE-1"
    assert trust.revocation(state, TWO) == ""
    assert trust.banned(state) == {ONE}
    trust.admit(state, TWO)
    with pytest.raises(Refused, match="was revoked by ana: CVE-1") as refused:
        trust.admit(state, ONE)
    assert "never comes back" in refused.value.hint


def test_an_image_goes_with_its_last_key_and_only_then() -> None:
    revoked = ev.Revoked(name=OLD, reason="stolen")
    assert trust.revocation(after(revoked), ONE) == "", "nobody ever signed it"
    only = after(signed(ONE, OLD), signed(TWO, NEW), revoked)
    assert trust.revocation(only, ONE) == (
        f"image {ONE[7:19]} is signed only by the key {OLD[:8]}, which was revoked by ana: stolen"
    )
    assert trust.banned(only) == {ONE}
    with pytest.raises(Refused) as refused:
        trust.admit(only, ONE)
    assert refused.value.hint.startswith("build its commit again"), "which helps here, and not when it was itself"
    assert trust.banned(after(signed(ONE, OLD), signed(ONE, NEW), revoked)) == frozenset()
    both = after(signed(ONE, OLD), signed(ONE, NEW), revoked, ev.Revoked(name=NEW, reason="too"))
    assert trust.banned(both) == {ONE}
    assert "revoked by ana: too" in trust.revocation(both, ONE), "the newest key is named"


def test_an_image_that_nobody_signed_can_be_revoked_too() -> None:
    state = after(ev.Revoked(name=digest_of(b"x"), reason="y"))
    assert trust.banned(state) == {digest_of(b"x")}


def test_what_is_recorded_of_keys_is_kept_and_the_first_revocation_counts() -> None:
    state = after(
        ev.KeyTrusted(key=OLD, pem="PEM", signs=False), ev.Revoked(name=OLD, reason="first"),
        ev.Revoked(name=OLD, reason="second"),
    )  # fmt: skip
    key = state.keys[OLD]
    assert (key.id, key.pem, key.actor, key.at, key.signs) == (OLD, "PEM", "ana", 0, False)
    assert (state.revoked[OLD].reason, state.revoked[OLD].at, state.revoked[OLD].actor) == ("first", 10, "ana")
    attested = after(signed(ONE, OLD, "c1"), signed(ONE, NEW, "c2")).attested[ONE]
    assert [(item.key, item.commit, item.at) for item in attested] == [(OLD, "c1", 0), (NEW, "c2", 10)]


def test_a_deployment_of_what_was_revoked_is_not_let_in() -> None:
    env = EnvironmentState(id=environment("rolling").id, config=environment("rolling"))
    admit(after(ev.Revoked(name=TWO, reason="x")), env, V1, 0)
    with pytest.raises(Refused, match="was revoked"):
        admit(after(ev.Revoked(name=ONE, reason="x")), env, V1, 0)


def test_a_rollback_goes_to_the_last_good_release_that_was_not_revoked() -> None:
    releases = {item.id: item for item in (V1, V2, V3)}
    env = EnvironmentState(
        id=environment("rolling").id,
        config=environment("rolling"),
        stable=V3.id,
        stables=(V1.id, V2.id, V3.id),
        releases=releases,
    )
    assert request.last_good(env, ()) == V2
    assert request.last_good(env, {TWO}) == V1
    assert request.last_good(env, {V3.image}) == V2, "what is stable is left in any case"
    with pytest.raises(Refused, match="every earlier release"):
        request.last_good(env, {ONE, TWO})
    assert request.last_good(replace(env, stables=(V1.id, V3.id)), {TWO}) == V1
