"""Debug sessions on real parts: a person at a terminal, in tmux and through a pipe; whatever goes away, it ends."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stelae.cli.words import span
from tests.real import tiny
from tests.real.machine import Machine
from tests.real.terminals import AtTerminal

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

STELAE = [sys.executable, "-m", "stelae.cli"]
IMPATIENT = """
import sys
from stelae.cli import debugging, entry
debugging.PATIENCE = 1
sys.exit(entry.main())
"""
ENDS_WHEN_ASKED = ("--", "/app/busybox", "sh", "-c", "trap 'exit 0' TERM; echo here; while :; do read -t 1 x; done")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with an app of one static program on an empty base: there is no shell in its image."""
    with Machine(seed=False) as made:
        made.start()
        tiny.make(made)
        made.cli("deploy", "testing", "--image", made.json("build")["image"])
        yield made


def instance(machine: Machine) -> str:
    """An instance that serves."""
    (env,) = machine.json("state")["environments"]
    return str(env["instances"][0]["id"])


def environment(machine: Machine) -> Mapping[str, str]:
    return {"STELAE_SOCKET": str(machine.installation.socket), "TERM": "vt100"}


def at_terminal(machine: Machine, *words: str) -> AtTerminal:
    return AtTerminal([*STELAE, "debug", instance(machine), *words], environment(machine))


def sessions(machine: Machine) -> list[Any]:
    return list(machine.status()["runs"])


def ended(machine: Machine, name: str) -> Any:
    machine.until(f"{name} ends", lambda: machine.json("show", name)["outcome"] != "")
    return machine.json("show", name)


def name_in(said: str) -> str:
    """The id of the session of which *said* is the first line."""
    return said.split()[0].rstrip(":")


def test_a_shell_at_a_terminal(machine: Machine) -> None:
    word = secrets.token_hex(8)
    serving = machine.status()
    with at_terminal(machine, "--reason", "it is slow") as person:
        name = name_in(person.until("out of traffic"))
        person.until("$ ")
        person.type("stty size; echo $TERM $STELAE_PROCESS\n")
        shown = person.until("vt100 web")
        assert "31 97" in shown
        person.resize(40, 120)
        person.type("sleep 60\n")
        person.until("sleep 60")
        time.sleep(0.3)
        person.type("\x03stty size\n")  # Ctrl-C ends the program in it, and not the session
        person.until("40 120")
        person.type(f"echo {word} | tr a-z A-Z\n")
        person.until(word.upper())
        person.type("echo > /etc/hostname\n")
        person.until("Read-only file system")
        (run,) = sessions(machine)
        assert (run["run"], run["debug"]["lent"], run["debug"]["terminal"]) == (name, True, True)
        now = machine.status()
        assert (now["traffic"], now["instances"]) == (serving["traffic"], serving["instances"])
        assert person.modes() != person.before
        person.type("exit 5\n")
        assert person.ended() == 5
        assert person.modes() == person.before
        assert "is over after" in person.said.decode()
    found = machine.json("show", name)
    assert (found["outcome"], found["status"], found["actor"], found["lines"]) == ("ended", 5, "root", [])
    assert found["debug"]["reason"] == "it is slow"
    texts = [item["text"] for item in machine.json("history", "testing", "-n", "5")["events"]]
    assert any(f"{name}: debug session, a copy of {instance(machine)}" in text for text in texts), texts
    _kept_nowhere(machine.folder, word)
    assert machine.cli("logs", "testing", "--run", name, check=False).returncode == 2
    assert machine.differences_soon() == []


def _kept_nowhere(folder: Path, word: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.parent.name != "netns":
            assert word.encode() not in path.read_bytes(), f"what was typed is in {path}"


def test_through_a_pipe(machine: Machine) -> None:
    def debug(typed: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = [*STELAE, "debug", instance(machine), *words]
        return subprocess.run(
            command, input=typed, capture_output=True, timeout=60, env={**os.environ, **environment(machine)},
            check=False,
        )  # fmt: skip

    done = debug(b"echo $STELAE_INSTANCE; echo no >&2; test -t 0; exit $?\n")
    assert (done.returncode, done.stdout.split(b"-")[0]) == (1, b"debug")
    assert b"\nno\n" in done.stderr
    data = secrets.token_bytes(3_000_000)
    done = debug(data, "--", "/app/busybox", "cat")
    assert (done.returncode, done.stdout == data) == (0, True), len(done.stdout)
    done = debug(b"", "--", "/app/no-such-program")
    assert (done.returncode, b"could not be started" in done.stderr) == (1, True)
    done = debug(b"", "--for", "1s", *ENDS_WHEN_ASKED[:-1], "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    assert (done.returncode, b"timed out: it did not end within 1 s" in done.stderr) == (1, True), done
    assert machine.cli("debug", "web-nothing-1", check=False).returncode == 2
    assert machine.differences_soon() == []


def test_in_tmux_and_when_its_window_is_closed(machine: Machine) -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("needs tmux")
    server = [tmux, "-L", machine.installation.name, "-f", "/dev/null"]
    env = {**os.environ, **environment(machine)}

    def in_tmux(*words: str) -> str:
        return subprocess.run([*server, *words], check=True, capture_output=True, text=True, env=env).stdout

    try:
        in_tmux("new-session", "-d", "-x", "90", "-y", "30", *STELAE, "debug", instance(machine), *ENDS_WHEN_ASKED)
        machine.until("it speaks", lambda: "here" in in_tmux("capture-pane", "-p"))
        (run,) = sessions(machine)
        assert run["debug"]["terminal"]
    finally:
        subprocess.run([*server, "kill-server"], check=False, capture_output=True)
    found = ended(machine, run["run"])
    assert (found["outcome"], found["reason"]) == ("cancelled", "its terminal went away")
    assert machine.differences_soon() == []


def test_a_person_who_is_killed_or_signalled(machine: Machine) -> None:
    with at_terminal(machine, *ENDS_WHEN_ASKED) as person:
        first = name_in(person.until("here"))
        person.program.send_signal(signal.SIGTERM)
        assert person.ended() == 130
        assert person.modes() == person.before
    with at_terminal(machine, *ENDS_WHEN_ASKED) as person:
        second = name_in(person.until("here"))
        person.program.kill()
    for name in (first, second):
        found = ended(machine, name)
        assert (found["outcome"], found["reason"]) == ("cancelled", "its terminal went away")
    assert machine.differences_soon() == []


def test_a_controller_that_is_killed_in_the_middle(machine: Machine) -> None:
    with at_terminal(machine) as person:
        person.until("$ ")
        person.type_until("marked=yes; echo it is $marked\n", "it is yes")
        machine.kill()
        machine.start()
        person.type_until("echo still $marked\n", "still yes")
        person.type("exit\n")
        assert person.ended() == 0
    assert machine.differences_soon() == []


def test_a_controller_that_stays_away(machine: Machine) -> None:
    with AtTerminal([sys.executable, "-c", IMPATIENT, "debug", instance(machine)], environment(machine)) as person:
        name = name_in(person.until(span(3_600_000_000)))
        person.until("$ ")
        machine.stop()
        assert person.ended(30) == 5
        assert person.modes() == person.before
    machine.power_off()
    machine.start()
    assert ended(machine, name)["outcome"] == "ended"
    machine.at_rest()
    assert machine.differences_soon() == []
