"""``stelae debug`` against a fake controller: what is typed goes there, its status comes back, modes are put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real.terminals import AtTerminal
from tests.unit.cli.conftest import Ran

from stelae.domain.errors import Conflict, Failed
from stelae.system.installation import Installation
from stelae.testing.answer_parts import debug_session
from stelae.testing.service import FakeService

Stelae = Callable[..., Ran]
COMMAND = [sys.executable, "-m", "stelae.cli", "debug", "web-7k2m9q-1"]


@pytest.fixture
def env(long_served: tuple[FakeService, Installation], service: FakeService) -> dict[str, str]:
    return {**os.environ, "STELAE_SOCKET": str(long_served[1].socket), "TERM": "vt100"}


def debug(env: dict[str, str], typed: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *words], input=typed, env=env, capture_output=True, timeout=60, check=False
    )  # fmt: skip


def test_what_is_piped_goes_there_and_its_exit_status_comes_back(env: dict[str, str], service: FakeService) -> None:
    done = debug(env, b"hello\n", "--for", "10m", "--reason", "it is slow", "--tools", "--", "cat", "-u")
    assert (done.returncode, done.stdout) == (7, b"hello\n")
    assert b"bye\n" in done.stderr
    assert b"a copy of web-7k2m9q-1, out of traffic" in done.stderr
    (request,) = [arguments[1] for name, arguments in service.calls if name == "debug"]
    assert len(request.pop("key")) == 32
    assert request == {
        "instance": "web-7k2m9q-1", "command": ("cat", "-u"), "reason": "it is slow", "timeout": 600_000_000,
        "tools": True, "rows": 0, "columns": 0, "term": "",
    }  # fmt: skip


def test_much_is_typed_and_nothing_is_lost(env: dict[str, str], service: FakeService) -> None:
    data = os.urandom(1_500_000)
    assert debug(env, data).stdout == data


def test_a_file_may_be_typed(env: dict[str, str], service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"from a file")
    with (tmp_path / "words").open("rb") as file:
        done = subprocess.run(COMMAND, stdin=file, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (7, b"from a file")


def test_how_it_was_ended_is_said(env: dict[str, str], service: FakeService) -> None:
    service.answers["terminal"] = [{"result": debug_session(outcome="timed out", reason="its time is over")}]
    done = debug(env, b"")
    assert (done.returncode, b"debug-7k2m9q-3 timed out: its time is over" in done.stderr) == (1, True)
    service.answers["terminal"] = [Failed("debug-7k2m9q-3 cannot be talked to")]
    done = debug(env, b"")
    assert (done.returncode, b"cannot be talked to" in done.stderr) == (1, True)
    service.answers["debug"] = Conflict("5 debug sessions go on, and no more may")
    done = debug(env, b"")
    assert (done.returncode, b"no more may" in done.stderr) == (4, True)


def test_json_is_one_document(stelae: Stelae, env: dict[str, str], service: FakeService) -> None:
    done = debug(env, b"hello", "--json")
    assert (done.returncode, done.stdout[:1], b"hello" in done.stdout) == (7, b"{", False)
    bad = stelae("debug", "web-7k2m9q-1", "--for", "soon")
    assert (bad.code, "expected a duration" in bad.err) == (2, True)


def test_at_a_terminal_each_key_goes_there_and_the_modes_are_put_back(
    env: dict[str, str], service: FakeService
) -> None:
    service.answers["debug"]["debug"]["terminal"] = True
    with AtTerminal(COMMAND, env, size=(20, 60)) as person:
        person.until("out of traffic")
        person.until_raw()
        person.type("q\x03")  # Ctrl-C is a key like any other
        person.until("q\x03")
        person.resize(25, 70)
        person.type("x")
        person.until("x")
        person.program.send_signal(signal.SIGTERM)
        assert person.ended() == 130
        assert person.modes() == person.before
        assert "ended by SIGTERM" in person.said.decode()
    (request,) = [arguments[1] for name, arguments in service.calls if name == "debug"]
    assert (request["rows"], request["columns"], request["term"]) == (20, 60, "vt100")
    sizes = [arguments[0] for name, arguments in service.calls if name == "typed" and arguments[0]["rows"]]
    assert (sizes[0]["rows"], sizes[-1]["rows"], sizes[-1]["columns"]) == (20, 25, 70)
