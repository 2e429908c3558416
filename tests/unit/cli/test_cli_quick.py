"""What is typed without options: the same as with click, in less time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.unit.cli.conftest import Ran

from stelae.cli import quick
from stelae.cli.installation import installation_from
from stelae.domain.errors import Unreachable
from stelae.testing.answer_parts import IMAGE
from stelae.testing.service import FakeService

Stelae = Callable[..., Ran]

SLOW = (
    "click", "http.client", "dataclasses", "inspect", "ipaddress", "hashlib", "tempfile", "msgspec", "pathlib",
    "typing", "subprocess",
)  # fmt: skip
WHILE_GIT_WORKS = ("json", "socket", "re", "enum")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_it_says_and_does_what_the_verb_does(more: list[str], stelae: Stelae, service: FakeService) -> None:
    ran = stelae("build", *more)
    calls = list(service.calls)
    service.calls.clear()
    again = stelae("build", *more, "--ref", "HEAD")
    assert (ran, calls) == (again, service.calls)
    assert ran.code == 0
    service.answers["build"] = Unreachable("the archive does not answer", hint="later")
    assert stelae("build", *more) == stelae("build", *more, "--ref", "HEAD")


@pytest.mark.parametrize("words", [("rollback", "production"), ("deploy", "production", "--image", IMAGE)])
def test_a_move_does_what_the_verb_does(words: tuple[str, ...], stelae: Stelae, service: FakeService) -> None:
    def done(*more: str) -> tuple[Ran, str]:
        service.calls.clear()
        ran = stelae(*words, *more)
        return ran, re.sub(r"'key': '[0-9a-f]{32}'", "", str(service.calls))

    first = done()
    assert first == done("--reason", "")
    assert first[0].code == 0
    assert "guestbook/production" in first[1]
    service.answers[words[0]] = Unreachable("the archive does not answer", hint="later")
    assert stelae(*words) == stelae(*words, "--reason", "")


@pytest.mark.parametrize("words", [("rollback", "-h"), ("rollback", "--to"), ("deploy", "--image", "--image", "x")])
def test_an_option_is_none_of_its_words(words: tuple[str, ...], stelae: Stelae, service: FakeService) -> None:
    stelae(*words)
    assert not service.calls


def imported(*names: str) -> set[str]:
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_it_imports_little_and_least_before_it_asks_git() -> None:
    first = ("stelae.cli.entry", "stelae.cli.quick", "stelae.build.client_git")
    assert not imported(*first) & {*SLOW, *WHILE_GIT_WORKS}
    assert not imported(*first, "stelae.cli.source", "stelae.controller.client") & set(SLOW)


def test_a_move_imports_little() -> None:
    verbs = ("stelae.cli.moving", "stelae.cli.which", "stelae.cli.watch")
    assert not imported("stelae.cli.entry", "stelae.cli.quick", *verbs) & set(SLOW)


def test_it_talks_to_the_same_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STELAE_SOCKET", "STELAE_NAME", "STELAE_RUN"):
        monkeypatch.delenv(name, raising=False)
    assert quick._socket() == quick.DEFAULT == str(installation_from().socket)
    monkeypatch.setenv("STELAE_RUN", "/elsewhere")
    assert quick._socket() == str(installation_from().socket)
    monkeypatch.setenv("STELAE_SOCKET", "/some/socket")
    assert quick._socket() == "/some/socket"
