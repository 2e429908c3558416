"""``stelae build`` without options: the same as with click, in less time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.unit.cli.conftest import Ran

from stelae.cli import quick
from stelae.cli.installation import installation_from
from stelae.domain.errors import Unreachable
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


def test_it_talks_to_the_same_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STELAE_SOCKET", "STELAE_NAME", "STELAE_RUN"):
        monkeypatch.delenv(name, raising=False)
    assert quick._socket() == quick.DEFAULT == str(installation_from().socket)
    monkeypatch.setenv("STELAE_RUN", "/elsewhere")
    assert quick._socket() == str(installation_from().socket)
    monkeypatch.setenv("STELAE_SOCKET", "/some/socket")
    assert quick._socket() == "/some/socket"
