"""Secrets end to end, on real parts: set, rotated, rolled back to, revoked; found nowhere but in the instances."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from stelae.platforms.local import record
from stelae.platforms.local.inventory import find_conmons
from stelae.platforms.local.place import places
from stelae.platforms.local.process import send_signal
from tests.real import tiny
from tests.real.machine import GIT_ENV, Machine

pytestmark = pytest.mark.real

CANARY = "zorkmid"
ONE, TWO, BAD = (f"{CANARY}-{name}-0123456789" for name in ("one", "two", "crash"))
SCRIPT = """
cd /app; ./busybox grep -q crash /run/secrets/PASSWORD && { echo it is wrong; exit 3; }
[ "$PASSWORD" = "$(./busybox cat /run/secrets/PASSWORD)" ] || exit 4
./busybox sha256sum < /run/secrets/PASSWORD > /www/index.html
exec ./busybox httpd -f -p 8000 -h /www
"""


class Told:
    """A machine whose every answer is kept, to be searched in the end."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.said = ""

    def cli(self, *arguments: object, code: int = 0, given: str | None = None) -> str:
        words = [sys.executable, "-m", "stelae.cli", *map(str, arguments)]
        environment = {"STELAE_SOCKET": str(self.machine.installation.socket), "STELAE_DEBUG": "1"}
        done = subprocess.run(
            words, cwd=self.machine.app, input=given, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **GIT_ENV, **environment},
        )  # fmt: skip
        answer = done.stdout + done.stderr
        self.said += answer
        assert done.returncode == code, answer
        return answer

    def give(self, value: str) -> str:
        return self.cli("secret", "set", "testing", "PASSWORD", given=value)

    def serves(self, value: str) -> bool:
        return tiny.ask(self.machine).split()[0] == sha256(value.encode()).hexdigest()

    def leaks(self) -> list[str]:
        """Where a value is that is none of the instances' own memory."""
        wanted = [CANARY.encode(), *(base64.b64encode(text.encode())[:12] for text in (ONE, TWO, BAD))]
        found = []

        def look(what: str, content: bytes) -> None:
            if any(word in content for word in wanted):
                found.append(what)

        own = self.machine.installation
        for path in (*own.state.rglob("*"), *own.run.rglob("*"), self.machine.log):
            if path.is_file() and not path.is_symlink() and path.parent.name != "netns":
                with suppress(FileNotFoundError):
                    look(str(path), path.read_bytes())
        look("what was answered", self.said.encode())
        mine = Path("/proc/self/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                look(f"{process}/cmdline", (process / "cmdline").read_bytes())
                if (process / "ns/pid").readlink() == mine:
                    look(f"{process}/environ", (process / "environ").read_bytes())
        return found


@pytest.fixture
def told() -> Iterator[Told]:
    with Machine(seed=False) as machine:
        yield Told(_with_a_secret(machine.start()))


def _with_a_secret(machine: Machine) -> Machine:
    tiny.make(machine, more='secrets = ["PASSWORD"]\nsecret_env = ["PASSWORD"]')
    text = (machine.app / "stelae.toml").read_text()
    command = next(line for line in text.splitlines() if line.startswith("command"))
    script = SCRIPT.strip().replace("\n", "; ").replace('"', '\\"')
    new = f'command = ["/app/busybox", "sh", "-c", "{script}"]\ntmpfs = {{ "/www" = "1MiB" }}'
    (machine.app / "stelae.toml").write_text(text.replace(command, new))
    return machine.commit("with a secret")


def test_a_value_reaches_its_instances_and_nothing_else(told: Told) -> None:
    machine = told.machine
    told.cli("env", "apply")
    refused = told.cli("deploy", "testing", code=2)
    assert "tiny/testing has no value for the secret PASSWORD: it was never set" in refused
    assert "stelae secret set testing PASSWORD" in refused
    assert not machine.json("history")["events"][-1]["text"].startswith("d-")

    assert "version 1" in told.give(ONE)
    told.cli("deploy", "testing")
    assert told.serves(ONE)
    assert "unchanged" in told.give(ONE)

    assert "next: stelae deploy testing --image current" in told.give(TWO)
    assert told.serves(ONE), "what runs was changed"
    assert "PASSWORD v1 -> v2" in told.cli("plan", "testing", "--image", "current")
    told.cli("deploy", "testing", "--image", "current")
    assert told.serves(TWO)
    ran = told.cli("run", "testing", "--", "/app/busybox", "sha256sum", "/run/secrets/PASSWORD")
    assert sha256(TWO.encode()).hexdigest() in ran, "a command that is run once has other secrets"
    assert told.leaks() == []

    told.give(BAD)
    began = time.monotonic()
    failed = told.cli("deploy", "testing", "--image", "current", code=1)
    assert "exited with status 3" in failed, failed
    assert time.monotonic() - began < 8
    assert told.serves(TWO)

    told.cli("rollback", "testing")
    assert told.serves(ONE)
    assert told.leaks() == []

    machine.power_off()
    machine.start()
    machine.at_rest()
    assert told.serves(ONE), "after the power was off"

    kept = told.cli("secret", "revoke", "testing", "PASSWORD", 1, "--reason", "it was in a ticket")
    assert "runs with it still" in kept
    assert "was revoked" in told.cli("status")
    _replaced(machine)
    assert told.serves(ONE), "an instance that died is replaced with what its release says"
    told.cli("secret", "revoke", "testing", "PASSWORD", 3, "--reason", "no good")
    told.cli("deploy", "testing", "--image", "current")
    assert told.serves(TWO)
    machine.until("version 1 is removed", lambda: told.cli("secret", "list", "testing").count("(removed)") == 2)
    back = told.cli("rollback", "testing", code=3)
    assert "version 1 of the secret PASSWORD" in back
    assert "it was in a ticket" in back
    told.cli("show", machine.status()["release"])
    told.cli("history", "--all")
    told.cli("state", "--at", "now")
    machine.at_rest()
    assert machine.differences_soon() == []
    assert told.leaks() == []


def test_ctrl_c_while_a_value_is_read_shows_nothing_of_it() -> None:
    words = [sys.executable, "-m", "stelae.cli", "secret", "set", "shop/testing", "PASSWORD"]
    with subprocess.Popen(
        words, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "STELAE_SOCKET": "/nowhere", "STELAE_DEBUG": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(ONE.encode())
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while "pipe_read" not in Path(f"/proc/{process.pid}/wchan").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.stdout.read().decode()
    assert (process.returncode, said.strip()) == (130, "interrupted")


def _replaced(machine: Machine) -> None:
    """Kill every instance, and wait until others serve."""
    assert _killed(machine, 2) == 2
    machine.at_rest()
    assert len(find_conmons(machine.installation)) == 2


def _killed(machine: Machine, most: int) -> int:
    """Kill at most so many instances of what serves; return how many."""
    serving = f"-{machine.status()['release'][2:8]}-"
    found = [record.load(place) for place in places(machine.installation) if serving in place.instance]
    running = [item.process for item in found if item is not None and item.process is not None]
    count = 0
    for process in running:
        count += count < most and send_signal(process, signal.SIGKILL)
    return count


def test_what_cannot_be_read_stops_a_rollout_before_it_begins_and_a_launch_at_once(told: Told) -> None:
    machine = told.machine
    told.cli("env", "apply")
    told.give(ONE)
    told.cli("deploy", "testing")
    told.give(TWO)
    store = machine.installation.secrets
    newest = max(store.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-1])
    failed = told.cli("deploy", "testing", "--image", "current", code=1)
    assert "secret PASSWORD version 2 cannot be read: its file is damaged" in failed
    assert told.serves(ONE)
    newest.write_bytes(whole)
    told.cli("deploy", "testing", "--image", "current")
    assert told.serves(TWO)
    machine.at_rest()
    key = machine.installation.keys / "secrets.key"
    key.rename(key.with_name("aside"))
    assert _killed(machine, 1) == 1
    machine.until(
        "the launch fails and says why",
        lambda: "encrypted with a key that is not here" in told.cli("history", "--all"),
    )
    assert told.serves(TWO), "the other instance serves"
    key.with_name("aside").rename(key)
    machine.at_rest()
    assert told.leaks() == []
