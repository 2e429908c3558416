"""What is shown of promotion, word for word: approve, reject, promote, trust, and deployments in a freeze."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.domain.errors import Conflict, Refused
from stelae.testing.answer_parts import IMAGE, KEY, NEXT_RELEASE, row
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
PRODUCTION = "guestbook/production"


@pytest.fixture(autouse=True)
def waiting(service: FakeService) -> None:
    """A deployment waits for an approval."""
    rollout = {"deployment": "d-7", "candidate": NEXT_RELEASE, "actor": "ana"}
    service.answers["status"] = {**ANSWERS["status"], "environments": [row(rollout=rollout)]}


def test_approve(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("approve", "production", "--reason", "I looked")) == snapshot("""\
  d-7   guestbook production   let on (r-c04xvt, asked for by ana)
  it waits still: approval 1/2 (ops)
""")
    assert asked(service, "approve")[1] == {"environment": PRODUCTION, "deployment": "d-7", "reason": "I looked"}
    service.answers["approve"] = {**ANSWERS["approve"], "waits": ""}
    assert plain(stelae("approve", "production")).splitlines()[-1] == snapshot(
        "  watch it: stelae status production --watch"
    )
    assert document(stelae("approve", "other/production", "--json")) == service.answers["approve"]


def test_what_is_let_on_is_what_was_seen(stelae: Stelae, service: FakeService) -> None:
    service.answers["status"] = {**ANSWERS["status"], "environments": []}
    stelae("approve", "production")
    assert asked(service, "approve")[1]["deployment"] == ""
    service.answers["approve"] = Refused(
        "d-7 was not approved: you asked for it yourself", hint="somebody else has to"
    )
    ran = stelae("approve", "production")
    assert (ran.code, ran.out) == (3, "")
    assert "you asked for it yourself" in ran.err


def test_reject(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("reject", "production", "--reason", "not today")) == "  d-7 rejected: not today\n"
    assert asked(service, "reject")[1] == {"environment": PRODUCTION, "deployment": "d-7", "reason": "not today"}
    assert stelae("reject", "production").code == 2
    service.answers["reject"] = Conflict("nothing waits for anybody")
    assert stelae("reject", "production", "--reason", "x").code == 4


def test_promote(stelae: Stelae, service: FakeService) -> None:
    service.answers["promote"] = {**ANSWERS["promote"], "note": "verified in staging 2 h ago · needs approval by 1"}
    assert plain(stelae("promote", "staging", "production", "--reason", "why not")) == snapshot("""\
  d-7   guestbook production   r-7k2m9q -> r-c04xvt   image 51e8c07d91f2
  verified in staging 2 h ago · needs approval by 1
  rolling, step 1 of 2   1/3 ready
  rolling, step 2 of 2   3/3 ready
  done in 0.6 s, r-7k2m9q stays warm for 10 min: stelae rollback production
""")
    request = asked(service, "promote")[1]
    assert len(request.pop("key")) == 32
    assert request == {
        "from": "guestbook/staging", "to": PRODUCTION, "strategy": "", "supersede": False, "irreversible": False,
        "wait": False, "emergency": "", "plan": None, "reason": "why not",
    }  # fmt: skip
    stelae("promote", "staging", "production", "--wait", "--supersede", "--plan", "7", "--detach", "--app", "other")
    request = asked(service, "promote")[1]
    assert (request["wait"], request["supersede"], request["plan"]) == (True, True, 7)
    assert (request["from"], request["to"]) == ("other/staging", "other/production")


@pytest.mark.parametrize(
    "arguments",
    [
        ("staging",),
        ("staging", "production", "another"),
        ("staging", "production", "--now"),
        ("production", "--now", "--emergency", "x"),
        ("production", "--now", "--wait"),
        (),
    ],
)
def test_what_is_no_promotion(stelae: Stelae, service: FakeService, arguments: tuple[str, ...]) -> None:
    ran = stelae("promote", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert not service.calls


def test_a_freeze(stelae: Stelae, service: FakeService) -> None:
    service.answers["deploy"] = Refused("guestbook/production is frozen until Mon 08:00", hint="wait: --wait")
    assert stelae("deploy", "production", "--image", IMAGE).code == 3
    service.answers["deploy"] = ANSWERS["deploy"]
    for arguments, expected in (
        (("--wait",), (True, "")),
        (("--emergency", "it burns"), (False, "it burns")),
    ):
        assert stelae("deploy", "production", "--image", IMAGE, *arguments).code == 0
        request = asked(service, "deploy")[1]
        assert (request["wait"], request["emergency"]) == expected


def test_trust(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    file = tmp_path / "staging.pem"
    file.write_text("-----BEGIN PUBLIC KEY-----")
    assert plain(stelae("trust", "add", str(file), "--verifies", "guestbook/staging")) == snapshot(
        "  key k-4b7ppd counts from now on for what was verified in guestbook/staging\n"
    )
    assert asked(service, "trust")[1] == {"pem": "-----BEGIN PUBLIC KEY-----", "verifies": "guestbook/staging"}
    assert plain(stelae("trust", "list")) == snapshot(
        "  k-4b7ppd  guestbook/staging  (by controller 2026-11-30 12:00:00)\n"
    )
    assert [item["key"] for item in document(stelae("trust", "list", "--json"))["keys"]] == [KEY]
    service.answers["keys"]["keys"][0]["revoked"] = {"by": "ana", "at": 0, "reason": "lost"}
    assert "revoked by ana: lost" in plain(stelae("trust", "list"))
    service.answers["keys"]["keys"][0]["verifies"] = []
    assert plain(stelae("trust", "list")).startswith("  none; add one")
    for wrong in (tmp_path / "missing", tmp_path):
        assert stelae("trust", "add", str(wrong), "--verifies", "guestbook/staging").code == 2
    assert stelae("trust", "add", str(file)).code == 2
    assert stelae("trust", "add", str(file), "--verifies", "staging").code == 2
