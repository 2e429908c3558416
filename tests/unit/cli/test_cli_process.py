"""The command as a process: how quickly it starts, what it imports, terminals, Ctrl-C, broken pipes."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stelae.system.installation import Installation
from stelae.testing.service import FakeService, served

COMMAND = [sys.executable, "-m", "stelae.cli"]


@pytest.fixture
def environment(long_served: tuple[FakeService, Installation], service: FakeService) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STELAE_")}
    return kept | {"STELAE_SOCKET": str(long_served[1].socket), "TERM": "xterm", "NO_COLOR": ""}


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        check=True, capture_output=True, text=True, env=os.environ | {"STELAE_SOCKET": "/nowhere"},
    )  # fmt: skip
    return set(done.stderr.splitlines()[-1].split())


def test_version_imports_next_to_nothing() -> None:
    modules = imported("from stelae.cli.entry import main; assert main(['--version']) == 0")
    assert not modules & {"click", "http.client", "json", "asyncio", "stelae.cli.run", "dataclasses"}


def test_status_imports_nothing_of_the_controller() -> None:
    modules = imported("from stelae.cli.entry import main; assert main(['status']) == 5")
    assert "stelae.controller.client" in modules
    assert not modules & {"starlette", "anyio", "msgspec", "asyncio", "uvicorn", "rich", "structlog", "jsonschema"}
    assert {name for name in modules if name.startswith("stelae.cli.verbs.")} == {"stelae.cli.verbs.status"}


def test_start_up_time(environment: dict[str, str]) -> None:
    for arguments in (["--version"], ["status"]):
        took = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, env=environment)
            took.append(time.perf_counter() - began)
        best, worst = (round(seconds * 1000) for seconds in (min(took), max(took)))
        print(f"stelae {' '.join(arguments)}: {best} ms at best of 5, {worst} ms at worst")


def on_terminal(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    master, slave = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    output = b""
    while select.select([master], [], [], 20)[0]:
        try:
            data = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        output += data
    os.close(master)
    return process.wait(20), output.decode()


def test_a_terminal_sees_progress_in_place_and_colour(environment: dict[str, str]) -> None:
    arguments = ["deploy", "guestbook/production", "--image", "9b1d02c4aa37"]
    code, output = on_terminal(arguments, environment)
    assert code == 0
    assert "rolling, step 1 of 2   1/3 ready\r\x1b[2K" in output
    assert "\x1b[32m  done in 0.6 s" in output
    _, output = on_terminal(arguments, environment | {"NO_COLOR": "1"})
    assert "\x1b[32m" not in output
    _, output = on_terminal(arguments, environment | {"TERM": "dumb"})
    assert "\x1b" not in output


def test_a_terminal_is_safe_from_what_instances_print(environment: dict[str, str]) -> None:
    _, output = on_terminal(["logs", "guestbook/production"], environment)
    assert "\x1b[2J" not in output
    assert "\\x1b[2J" in output


@pytest.mark.parametrize(
    ("verb", "held", "says"),
    [
        (["deploy", "guestbook/production", "--image", "9b1d02c4aa37"], "watch", "the deployment goes on"),
        (["logs", "-f", "guestbook/production"], "logs", "the instances run on"),
    ],
)
def test_ctrl_c_says_what_goes_on(
    service: FakeService, environment: dict[str, str], verb: list[str], held: str, says: str
) -> None:
    service.hold = {held}
    service.answers[held] = service.answers[held][:1]
    process = subprocess.Popen([*COMMAND, *verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(rb"ready|listening", line):
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.decode().startswith(f"interrupted; {says}")
    assert b"Traceback" not in stderr


def test_a_broken_pipe_is_quiet(service: FakeService, environment: dict[str, str]) -> None:
    service.answers["logs"] *= 20_000
    with subprocess.Popen(
        [*COMMAND, "logs", "guestbook/production"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_output_that_the_locale_cannot_say(service: FakeService, environment: dict[str, str]) -> None:
    service.answers["logs"][0]["progress"]["text"] = "grüße ☃"
    done = subprocess.run(
        [*COMMAND, "logs", "guestbook/production"],
        capture_output=True,
        env=environment | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr??e ?" in done.stdout


def test_a_controller_that_restarts_is_waited_for(tmp_path: Path, environment: dict[str, str]) -> None:
    service = FakeService()
    installation = Installation(name="stw", state=tmp_path / "s", run=tmp_path / "r", group="none")
    service.hold = {"watch"}
    lines = service.answers["watch"]
    service.answers["watch"] = lines[:1]
    with served(service, installation):
        process = subprocess.Popen(
            [*COMMAND, "deploy", "guestbook/production", "--image", "9b1d02c4aa37"], stdout=subprocess.PIPE,
            env=environment | {"STELAE_SOCKET": str(installation.socket)}, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert any("1/3 ready" in line for line in process.stdout)
    service.answers["watch"] = lines
    assert "away" in process.stdout.readline()
    with served(service, installation):
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "done in" in rest


def test_a_controller_that_stays_away(monkeypatch: pytest.MonkeyPatch, stelae: Any, service: FakeService) -> None:
    from stelae.domain.errors import Unreachable

    monkeypatch.setattr("stelae.cli.watch.PATIENCE", 0.3)
    service.answers["watch"] = Unreachable("the controller stops")
    ran = stelae("deploy", "production", "--image", "9b1d02c4aa37")
    assert ran.code == 5
    assert "the controller stops" in ran.err
