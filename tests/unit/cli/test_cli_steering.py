"""What pause, resume and ``promote --now`` print, word for word, and what they ask of the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.domain.errors import Conflict
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
PRODUCTION = "guestbook/production"


def test_pause_and_resume(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("pause", "production", "--reason", "look")) == snapshot("  d-7 paused at step 1 of 4\n")
    assert asked(service, "pause")[1] == {"environment": PRODUCTION, "reason": "look"}
    assert plain(stelae("resume", "production")) == snapshot("  d-7 goes on at step 1 of 4\n")
    assert asked(service, "resume")[1] == {"environment": PRODUCTION, "reason": ""}
    assert document(stelae("pause", "production", "--json")) == ANSWERS["pause"]
    assert document(stelae("resume", "production", "--json")) == ANSWERS["resume"]


def test_promote_now(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("promote", "production", "--now", "--reason", "late")) == snapshot(
        "  d-7 goes on from step 1 of 4, with no more waiting\n"
    )
    assert asked(service, "hurry")[1] == {"environment": PRODUCTION, "reason": "late"}
    assert stelae("promote", "staging", "production", "--now").code == 2
    assert stelae("promote", "production").code == 2


@pytest.mark.parametrize(
    "words", [("pause", "production"), ("resume", "production"), ("promote", "production", "--now")]
)
def test_where_there_is_nothing_to_steer(stelae: Stelae, service: FakeService, words: tuple[str, ...]) -> None:
    for name in ("pause", "resume", "hurry"):
        service.answers[name] = Conflict("no deployment is under way in guestbook/production")
    ran = stelae(*words)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("no deployment is under way")
