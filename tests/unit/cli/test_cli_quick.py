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

SLOW = ("click", "http.client", "dataclasses", "inspect", "ipaddress", "hashlib", "tempfile", "msgspec")


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


def test_it_imports_little() -> None:
    code = (
        "import sys; from stelae.cli import entry, quick, source; from stelae.controller import client\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.split())
    # pathlib of Python 3.11 imports ipaddress by way of urllib.parse
    assert not found & (set(SLOW) - {"ipaddress"})


def test_it_talks_to_the_same_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STELAE_SOCKET", "STELAE_NAME", "STELAE_RUN"):
        monkeypatch.delenv(name, raising=False)
    assert quick._socket() == quick.DEFAULT == installation_from().socket
    monkeypatch.setenv("STELAE_RUN", "/elsewhere")
    assert quick._socket() == installation_from().socket
    monkeypatch.setenv("STELAE_SOCKET", "/some/socket")
    assert str(quick._socket()) == "/some/socket"
