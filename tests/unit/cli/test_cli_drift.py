"""What verify and replace print, word for word, and what they ask of the controller."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, plain

from stelae.testing.answer_parts import NOON, inspected
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
PRODUCTION = "guestbook/production"


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stelae.cli.verbs.verify.now", lambda: NOON)


def test_verify_shows_what_differs_and_the_evidence(stelae: Stelae, service: FakeService) -> None:
    ran = stelae("verify", "production")
    assert (ran.code, ran.err, ran.out) == snapshot(
        (
            1,
            "",
            """\
  guestbook/production   1 of 3 are what their release says
    web-7k2m9q-1  web of r-7k2m9q drifted
      process: /run/x runs, which is no file of the image   for 4 s
        process 4711: /run/x -l 4444
        started by process 4700 (nsenter)
    web-7k2m9q-3  not looked at: it ended meanwhile
    what is an instance's is replaced: see stelae status
""",
        )
    )
    assert asked(service, "inspect") == (PRODUCTION,)
    ran = stelae("verify", "production", "--json")
    assert (ran.code, json.loads(ran.out)) == (1, ANSWERS["inspect"])


def test_verify_is_content_when_nothing_differs(stelae: Stelae, service: FakeService) -> None:
    clean = [item for item in inspected()["running"] if item["inspected"] and not item["findings"]]
    service.answers["inspect"] = {"environments": [inspected(instances=0, running=clean)]}
    assert plain(stelae("verify")) == snapshot("  guestbook/production   1 of 1 are what their release says\n")
    assert asked(service, "inspect") == ("",)
    service.answers["inspect"] = {"environments": []}
    assert plain(stelae("verify")) == snapshot("  nothing runs\n")


def test_verify_is_not_content_when_the_traffic_was_not_looked_at(stelae: Stelae, service: FakeService) -> None:
    clean = [item for item in inspected()["running"] if item["inspected"] and not item["findings"]]
    found = inspected(instances=0, running=clean, missed="the proxy does not answer")
    service.answers["inspect"] = {"environments": [found]}
    ran = stelae("verify")
    assert (ran.code, ran.out) == snapshot(
        (
            1,
            """\
  guestbook/production   1 of 1 are what their release says
    its traffic was not looked at: the proxy does not answer
""",
        )
    )


def test_verify_says_whose_turn_it_is(stelae: Stelae, service: FakeService) -> None:
    service.answers["inspect"] = {
        "environments": [inspected(policy="report"), inspected(storm={"at": NOON, "found": 4, "of": 10})]
    }
    lines = [line for line in stelae("verify").out.splitlines() if "replace" in line]
    assert lines == snapshot(
        [
            "    it is only reported here; to replace it: stelae replace production --drifted --reason …",
            "    a drift storm: nothing is replaced until you say stelae replace production --drifted --reason …",
        ]
    )


def test_replace(stelae: Stelae, service: FakeService) -> None:
    result = stelae("replace", "production", "web-7k2m9q-1", "--reason", "new certificates")
    assert plain(result) == snapshot("  web-7k2m9q-1 is replaced\n")
    assert asked(service, "replace")[1] == {
        "environment": PRODUCTION, "instances": ("web-7k2m9q-1",), "drifted": False, "reason": "new certificates",
    }  # fmt: skip
    service.answers["replace"]["storm_ended"] = True
    assert plain(stelae("replace", "production", "--drifted", "--reason", "seen to")) == snapshot("""\
  web-7k2m9q-1 is replaced
  the drift storm is over: what drifts from now on is replaced again
""")
    assert asked(service, "replace")[1]["drifted"] is True


def test_replace_needs_a_reason_and_something_to_replace(stelae: Stelae, service: FakeService) -> None:
    wrong = {
        "--reason": ("--drifted",),
        "nothing is named": ("--reason", "x"),
        "a reason": ("--drifted", "--reason", "  "),
    }
    for words, arguments in wrong.items():
        ran = stelae("replace", "production", *arguments)
        assert ran.code == 2
        assert words in ran.err
    assert service.calls == []
