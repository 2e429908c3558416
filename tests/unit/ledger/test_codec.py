"""Events to leaves and back: every kind, strict reading, the bytes of RFC 8785."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, InstanceId
from stelae.domain.canonical import canonical
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import (
    KINDS,
    ActionIntended,
    AllocationSet,
    BuildFailed,
    ControllerStarted,
    Event,
    InstanceLost,
    Recorded,
    Scaled,
)  # fmt: skip
from stelae.domain.image import Source
from stelae.domain.state import InstallationState
from stelae.ledger import state_codec
from stelae.ledger.codec import MAX_LEAF, decode, encode, read_envelope

from .generate import INTEGERS, TEXTS, values

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)  # fmt: skip


def recorded(event: Event, **rest: Any) -> Recorded:
    return Recorded(**{"index": 7, "at": 1_700_000_000_000_000, "actor": "ana", "event": event, **rest})


@given(JSON_VALUES)
@settings(deadline=None)
def test_canonical_is_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_what_has_no_canonical_form_is_refused() -> None:
    for value in (1.5, {1: 2}, b"bytes", {"a": {1}}):
        with pytest.raises(TypeError):
            canonical(value)
    for wrong in (2**53, -(2**53), "\ud800", {"\udfff": 1}):
        with pytest.raises(ValueError, match=r"beyond|surrogates"):
            canonical(wrong)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_comes_back_the_same(kind: str) -> None:
    @given(values(KINDS[kind]), TEXTS.filter(bool), TEXTS, TEXTS, INTEGERS)
    @SLOW
    def check(event: Event, actor: str, environment: str, key: str, at: int) -> None:
        before = recorded(event, actor=actor, environment=EnvironmentId(environment), key=key, at=at)
        leaf = encode(before)
        assert rfc8785.dumps(json.loads(leaf)) == leaf
        after = decode(7, leaf)
        assert after == before
        assert encode(after) == leaf
        assert read_envelope(7, leaf).at == at
        assert ("env" in json.loads(leaf), "key" in json.loads(leaf)) == (environment != "", key != "")

    check()


def test_the_bytes_are_fixed() -> None:
    event = recorded(Scaled(process="web", count=3), environment=EnvironmentId("guestbook/production"), key="k1")
    assert encode(event) == (
        b'{"actor":"ana","at":1700000000000000,"body":{"count":3,"process":"web","reason":""},'
        b'"env":"guestbook/production","key":"k1","kind":"environment.scaled","v":1}'
    )
    sets = AllocationSet(allocation=Allocation(condemned=frozenset(InstanceId(f"web-{n}") for n in range(9))))
    assert json.loads(encode(recorded(sets)))["body"]["allocation"]["condemned"] == [f"web-{n}" for n in range(9)]


OLDER = (
    b'{"actor":"ana","at":1700000000000000,"body":{"count":3,"process":"web"},"env":"guestbook/production",'
    b'"key":"k1","kind":"environment.scaled","v":1}'
)
"""As it was recorded before ``reason`` was there. A new leaf says each field of its event, also an empty one."""


def test_an_older_leaf_is_read() -> None:
    assert decode(7, OLDER) == recorded(
        Scaled(process="web", count=3, reason=""), environment=EnvironmentId("guestbook/production"), key="k1"
    )


def test_a_field_with_a_default_may_be_missing() -> None:
    leaf = b'{"actor":"a","at":1,"body":{"version":"0.1"},"kind":"controller.started","v":1}'
    assert decode(0, leaf).event == ControllerStarted(version="0.1")


ENVELOPE = {"v": 1, "at": 5, "actor": "ana", "kind": "action.intended"}
BODY = {"action": {"number": 1, "verb": "stop", "instance": "web-1"}}


def with_action(**fields: object) -> bytes:
    return json.dumps({**ENVELOPE, "body": {"action": {**BODY["action"], **fields}}}).encode()


BAD = {
    "not JSON": b"\x00\x01",
    "not an object": b"[]",
    "cut": b'{"v":1,"at":5,"actor":"ana","kind":"action.int',
    "not UTF-8": b'{"v":1,"at":5,"actor":"\xff","kind":"platform.back","body":{}}',
    "too deep": b'{"v":1,"at":5,"actor":"ana","kind":"platform.back","body":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "no body": json.dumps(ENVELOPE).encode(),
    "no actor": b'{"v":1,"at":5,"kind":"platform.back","body":{}}',
    "unknown kind": json.dumps({**ENVELOPE, "kind": "action.undone", "body": {}}).encode(),
    "unknown version": json.dumps({**ENVELOPE, "v": 2, "body": BODY}).encode(),
    "unknown key": json.dumps({**ENVELOPE, "who": "me", "body": BODY}).encode(),
    "unknown field": json.dumps({**ENVELOPE, "body": {**BODY, "more": 1}}).encode(),
    "unknown field deep": with_action(more=None),
    "missing field": json.dumps({**ENVELOPE, "body": {}}).encode(),
    "wrong type": with_action(number="1"),
    "a boolean for a number": with_action(number=True),
    "a float": with_action(number=1.0),
    "a float beyond integers": with_action(number=1e300),
    "wrong word": with_action(verb="pat"),
    "time in words": json.dumps({**ENVELOPE, "at": "now", "body": BODY}).encode(),
    "a set with a double": json.dumps(
        {**ENVELOPE, "kind": "allocation.set", "body": {"allocation": {"condemned": ["a", "a"]}}}
    ).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_reading_is_strict_and_names_the_index(name: str) -> None:
    with pytest.raises(Failed, match=r"^event 12 of the record cannot be read: "):
        decode(12, BAD[name])


def test_the_bad_leaves_differ_from_a_good_one_only_where_they_say() -> None:
    good = json.dumps({**ENVELOPE, "body": BODY}).encode()
    assert decode(1, good).event == ActionIntended(
        action=Action(number=1, verb=Verb.STOP, instance=InstanceId("web-1"))
    )


class Invented(Event):
    kind = "invented"


def test_what_cannot_be_recorded_is_refused() -> None:
    lost = InstanceLost(instance=InstanceId("web-1"))
    refused = [
        recorded(lost, actor=""),
        recorded(Invented()),
        recorded(lost, at=2**53),
        recorded(lost, key="\ud800"),
        recorded(Scaled(process="web", count=1.5)),  # type: ignore[arg-type]  # no whole number, which is what is refused
        recorded(BuildFailed(source=Source(commit="c"), reason="x" * MAX_LEAF)),
    ]
    for event in refused:
        with pytest.raises(InvalidInput):
            encode(event)
    fits = recorded(BuildFailed(source=Source(commit="c"), reason=""))
    room = MAX_LEAF - len(encode(fits))
    fits = recorded(BuildFailed(source=Source(commit="c"), reason="x" * room))
    assert len(encode(fits)) == MAX_LEAF


@given(values(InstallationState))
@SLOW
def test_states_come_back_the_same(state: InstallationState) -> None:
    data = state_codec.encode(state)
    assert state_codec.decode(data) == state
    assert rfc8785.dumps(json.loads(data)) == data


def test_a_state_of_another_version_is_refused() -> None:
    data = state_codec.encode(InstallationState(size=3))
    fields = json.loads(data)
    del fields["deployments"]
    for other in (canonical(fields), canonical({**fields, "deployments": 0, "new": 1}), data + b" ", data[:-1], b""):
        with pytest.raises(Failed):
            state_codec.decode(other)
    assert state_codec.decode(data).size == 3
