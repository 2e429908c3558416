"""What was taken back is refused, and said in words; what the record says of images, keys and revocations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import request, trust
from stelae.core.fold import apply_all
from stelae.domain import event as ev
from stelae.domain.digest import digest_of, short
from stelae.domain.errors import Refused
from stelae.domain.event import Event, Recorded
from stelae.domain.state import InstallationState
from stelae.domain.trust import Attested, Revocation, TrustedKey
from tests.unit.core.fixtures import V1, V2, release, state

IMAGE, OTHER = digest_of(b"image"), digest_of(b"other")
ONE, TWO = "k-one3456789", "k-two3456789"


def after(*events: Event) -> InstallationState:
    return apply_all(
        InstallationState(),
        [Recorded(index=n, at=100 + n, actor="ana", event=event) for n, event in enumerate(events)],
    )


def test_what_the_record_says() -> None:
    found = after(
        ev.KeyTrusted(key=ONE, pem="PEM", signs=False),
        ev.ImageAttested(image=IMAGE, key=ONE, commit="c1"),
        ev.ImageAttested(image=IMAGE, key=TWO, commit="c2"),
        ev.Revoked(name=ONE, reason="lost"),
        ev.Revoked(name=ONE, reason="again"),
    )
    assert found == InstallationState(
        size=5,
        keys={ONE: TrustedKey(id=ONE, pem="PEM", actor="ana", at=100, signs=False)},
        attested={IMAGE: (Attested(key=ONE, at=101, commit="c1"), Attested(key=TWO, at=102, commit="c2"))},
        revoked={ONE: Revocation(actor="ana", at=103, reason="lost")},
    )


def test_an_image_is_refused_when_it_was_revoked_or_all_of_its_keys_were() -> None:
    signed = (ev.ImageAttested(image=IMAGE, key=ONE, commit=""), ev.ImageAttested(image=IMAGE, key=TWO, commit=""))
    assert trust.revocation(after(), IMAGE) == ""
    assert trust.revocation(after(*signed, ev.Revoked(name=ONE, reason="lost")), IMAGE) == ""
    assert trust.revocation(after(*signed, ev.Revoked(name=OTHER, reason="lost")), IMAGE) == ""
    both = after(*signed, ev.Revoked(name=ONE, reason="lost"), ev.Revoked(name=TWO, reason="stolen"))
    assert trust.revocation(both, IMAGE) == (
        f"image {short(IMAGE)} is signed only by the key k-two345, which was revoked by ana: stolen"
    )
    alone = after(signed[0], ev.Revoked(name=ONE, reason="lost"))
    assert "signed only by the key k-one345, which was revoked by ana: lost" in trust.revocation(alone, IMAGE)
    taken = after(*signed, ev.Revoked(name=IMAGE, reason="bad"))
    assert trust.revocation(taken, IMAGE) == f"image {short(IMAGE)} was revoked by ana: bad"
    assert (trust.banned(both), trust.banned(taken), trust.banned(after(*signed))) == ({IMAGE}, {IMAGE}, frozenset())
    assert trust.banned(after(ev.Revoked(name=OTHER, reason="bad"))) == {OTHER}


def test_a_refusal_says_why_and_what_to_do() -> None:
    taken = after(ev.Revoked(name=V1.image, reason="bad"))
    trust.admit(taken, IMAGE)
    with pytest.raises(Refused) as caught:
        trust.admit(taken, V1.image)
    assert str(caught.value) == f"image {short(V1.image)} was revoked by ana: bad"
    assert caught.value.hint == "a revoked image never comes back: deploy another, or build the commit again"
    request.admit(taken, state(), V2)
    with pytest.raises(Refused, match="was revoked by ana: bad"):
        request.admit(taken, state(), V1)


def test_a_rollback_does_not_go_to_what_was_revoked() -> None:
    third = release("v3")
    env = state(stables=(V2.id, third.id, V1.id), releases={item.id: item for item in (V1, V2, third)})
    assert request.last_good(env) == third
    assert request.last_good(env, {third.image}) == V2
    with pytest.raises(Refused) as caught:
        request.last_good(replace(env, stables=(V2.id, V1.id)), {V2.image})
    assert str(caught.value) == "every earlier release of shop/test is of an image that was revoked"
    assert caught.value.hint == "deploy another image"
