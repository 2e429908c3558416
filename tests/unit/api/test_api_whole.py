"""Requests made from the description, to the whole controller: whatever is sent, no answer is unexpected."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from tests.unit.api.described import CONFORMS, DESCRIBED, ask, fixed, session
from tests.unit.api.whole import KNOWN, whole

from stelae.controller.client import Client
from stelae.system.installation import Installation

NO_END = {"GET /v1/logs"}
"""What goes on for as long as somebody reads (with ``follow``)."""


@pytest.fixture(scope="module")
def controller() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="st-") as folder, whole(Path(folder)) as installation:
        yield installation


@pytest.fixture(scope="module")
def through(controller: Installation) -> Iterator[requests.Session]:
    with session(controller.socket) as made:
        yield made


@pytest.mark.parametrize("label", sorted(DESCRIBED))
def test_what_the_description_allows_gets_an_answer_of_it(label: str, through: requests.Session) -> None:
    @fixed
    @given(case=DESCRIBED[label].as_strategy(generation_mode=GenerationMode.POSITIVE), known=st.sets(_names))
    def check(case: schemathesis.Case, known: set[str]) -> None:
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                place.update({name: KNOWN[name] for name in known & place.keys()})
        if label in NO_END and case.query:
            case.query.pop("follow", None)
        ask(case, through, CONFORMS)

    check()


_names = st.sampled_from(["environment", "image", "release", "to", "app", "instance", "id", "ref"])


def test_the_record_is_whole_after_all_that(controller: Installation) -> None:
    assert Client(controller.socket).post("/v1/verify-ledger")["size"] > 0
