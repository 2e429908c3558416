"""Statements of what was verified: made and read, and closed to every kind of damage and pretence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.attest import verification
from stelae.attest.keys import PrivateKey
from stelae.attest.signing import bundled
from stelae.attest.statement import Statement
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.promotion import Verification
from stelae.domain.release import ReleaseId
from stelae.domain.trust import Requirement, TrustedKey
from stelae.domain.units import SECOND
from stelae.images import referrers
from tests.unit.attest.samples import image
from tests.unit.attest.test_checking import KEY, OTHER, Store

STAGING, TESTING = EnvironmentId("shop/staging"), EnvironmentId("shop/testing")
FACT = Verification(
    release=ReleaseId("r-abc"), deployment="d-7", since=1_796_040_000 * SECOND, at=1_796_040_600 * SECOND,
    evidence="10 min without a failure (2 web)",
)  # fmt: skip


def trusted(*keys: PrivateKey) -> dict[str, TrustedKey]:
    return {key.public.id: TrustedKey(id=key.public.id, pem=key.public.pem, actor="ana", at=0) for key in keys}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_what_is_said_is_read_back(store: Store) -> None:
    said = verification.said(store.image, STAGING, FACT, 42)
    digest = verification.keep(store.layout, said, KEY)
    assert verification.keep(store.layout, said, KEY) == digest
    (found,) = verification.found(store.layout, store.image, {STAGING: trusted(KEY)})[-1:]
    assert found == verification.Verified(
        verifies=STAGING, key=KEY.public.id, statement=digest, release=FACT.release, deployment="d-7",
        since=FACT.since, at=FACT.at, evidence=FACT.evidence,
    )  # fmt: skip
    assert said.predicate["verifier"]["record"] == "ledger:42"
    assert store.proof().problems == ()


def test_a_key_counts_for_the_environment_that_it_is_trusted_for_and_no_other(store: Store) -> None:
    verification.keep(store.layout, verification.said(store.image, STAGING, FACT, 1), KEY)
    for verifiers in ({}, {TESTING: trusted(KEY)}, {STAGING: trusted(OTHER)}, {STAGING: {}}):
        assert verification.found(store.layout, store.image, verifiers) == ()
    both = {STAGING: trusted(OTHER), TESTING: trusted(KEY)}
    assert verification.found(store.layout, store.image, both) == (), "each for the other's environment"
    assert len(verification.found(store.layout, store.image, {STAGING: trusted(KEY, OTHER)})) == 1


def test_a_statement_of_another_image_does_not_count(store: Store) -> None:
    """Somebody hangs a true statement of one image on another."""
    other = image(store.layout, "shop", {b"first": b"1"}, {b"second": b"2"})
    said = verification.said(store.image, STAGING, FACT, 1)
    subject = other, len(store.layout.blobs.read(other))
    referrers.add(store.layout, other, [bundled(subject, said, KEY)])
    assert verification.found(store.layout, other, {STAGING: trusted(KEY)}) == ()


WRONG: dict[str, dict[str, Any]] = {
    "an app with a slash": {"app": "shop/staging", "environment": "x"},
    "no environment": {"environment": None},
    "a number as a text": {"deployment": 7},
    "a long text": {"evidence": "x" * 501},
    "a text with a line break": {"evidence": "ok\nforged"},
    "a text with an escape": {"evidence": "\x1b[2J"},
    "another time": {"verifiedOn": "yesterday"},
    "a time with another zone": {"since": "2026-11-30T12:00:00+02:00"},
    "a list": {"release": ["r-1"]},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_signed_and_still_not_of_the_form_does_not_count(store: Store, case: str) -> None:
    said = verification.said(store.image, STAGING, FACT, 1)
    predicate = {**said.predicate, **WRONG[case]}
    predicate = {key: value for key, value in predicate.items() if value is not None}
    verification.keep(store.layout, Statement(image=store.image, type=said.type, predicate=predicate), KEY)
    assert verification.found(store.layout, store.image, {STAGING: trusted(KEY)}) == ()


def test_another_kind_of_statement_with_the_same_words_does_not_count(store: Store) -> None:
    said = verification.said(store.image, STAGING, FACT, 1)
    other = Statement(image=store.image, type="https://example.com/verification/v1", predicate=said.predicate)
    verification.keep(store.layout, other, KEY)
    assert verification.found(store.layout, store.image, {STAGING: trusted(KEY)}) == ()


def test_any_byte_that_is_another_does_not_count(store: Store) -> None:
    said = verification.said(store.image, STAGING, FACT, 1)
    subject = store.image, len(store.layout.blobs.read(store.image))
    right = bundled(subject, said, KEY)
    data = right.layer
    step = max(1, len(data) // 150)
    for place in range(0, len(data), step):
        wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        item = replace(right, blobs={**right.blobs, digest_of(data): wrong})
        found = verification._read(item, store.image, (KEY.public,))
        assert found is None or found.evidence == FACT.evidence, place  # the encoding of base64 has unused bits


def test_it_speaks_for_nothing_else(store: Store) -> None:
    """Trusted to verify is not trusted to sign: a bare image with such a statement has no signature."""
    bare = image(store.layout, "shop", {b"first": b"1"}, {b"second": b"2"})
    verification.keep(store.layout, verification.said(bare, STAGING, FACT, 1), KEY)
    assert store.proof(bare).lacks(Requirement.SIGNATURE) == "has no signature"
