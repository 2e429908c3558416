"""One whole Stelae for a test: an installation of its own, its controller as a process, a repository to deploy.

Everything has names of its own, so that it runs beside a person's Stelae; ``close`` takes all of it away.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from stelae.controller.client import Client
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.platforms.local.inventory import list_all, teardown
from stelae.platforms.local.proxy.checker import DIFFERS
from stelae.platforms.local.proxy.launch import layout_of, stop_supervisor, supervisor_status
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.local.proxy.table import Table, from_json
from stelae.system.installation import Installation
from stelae.system.mount import MNT_DETACH, mounts_below, unmount
from tests.ports import free_port
from tests.real import exact
from tests.real.keeping import CACHE, keep, lend

ROOT = Path(__file__).parent.parent.parent
GUESTBOOK = ROOT / "examples" / "guestbook"

GIT_ENV = {
    "GIT_AUTHOR_NAME": "ana", "GIT_AUTHOR_EMAIL": "ana@example.org",
    "GIT_COMMITTER_NAME": "ana", "GIT_COMMITTER_EMAIL": "ana@example.org",
    "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent",
}  # fmt: skip


def _seed() -> Path:
    """Where what was built outlives a test run, by all that the builder's keys may depend on: a builder that is
    another one would find nothing there, and every test would build Debian anew."""
    builder = (ROOT / "src" / "stelae" / "build").rglob("*.py")
    files = (*builder, GUESTBOOK / "stelae.toml", GUESTBOOK / "requirements.lock")
    content = sorted(hashlib.sha256(file.read_bytes()).digest() for file in files)
    return CACHE / f"machine-{hashlib.sha256(b''.join(content)).hexdigest()[:12]}"


SEED = _seed()


class Machine:
    """A Stelae under test; a context manager. With *checked* the proxy is compared with the record after each act."""

    environment = EnvironmentId("guestbook/testing")

    def __init__(self, *, seed: bool = True, checked: bool = True) -> None:
        chance = random.SystemRandom()
        name = "st" + "".join(chance.choices(string.ascii_lowercase + string.digits, k=4))
        self.folder = Path(tempfile.mkdtemp(prefix=f"stelae-{name}-"))
        self.installation = Installation(
            name=name,
            state=self.folder / "state",
            run=self.folder / "run",
            subnet=IPv4Network(f"10.{chance.randrange(220, 250)}.{chance.randrange(256)}.0/24"),
            http_port=free_port(),
            http_address="127.0.0.1",
        )
        self.app = self.folder / "app"
        self.controller: subprocess.Popen[bytes] | None = None
        self.held: set[int] = set()
        """Other controllers that a test keeps beside the one that serves."""
        self._spawned: list[subprocess.Popen[bytes]] = []
        self.log = self.folder / "controller.log"
        self.problems = ""
        self.checked = checked
        if seed and SEED.is_dir():
            self.installation.state.mkdir()
            lend(SEED, self.installation.state)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None and self.log.exists():
            print(self.log.read_text()[-6000:])
        self.close()
        if error[0] is None:
            assert DIFFERS not in self.problems, "the live proxy differed from the record after an act"
            assert "Traceback" not in self.problems, self.problems[-6000:]

    def start(self, *more: str, **environment: str) -> Machine:
        """Start the controller, with *more* arguments and *environment*, and wait until it answers."""
        self.spawn(*more, **environment)
        return self.answers()

    def spawn(self, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the controller, and do not wait."""
        own = self.installation
        command = [
            sys.executable, "-m", "stelae.cli", "controller", "run", "--name", own.name, "--state", str(own.state),
            "--run", str(own.run), "--port", str(own.http_port), "--address", own.http_address,
            "--subnet", str(own.subnet), *more,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.controller = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "STELAE_CHECK_PROXY": "1" if self.checked else "", **environment},
            )  # fmt: skip
        self._spawned.append(self.controller)
        return self.controller

    def answers(self) -> Machine:
        """Wait until the controller answers."""
        assert self.controller is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.controller.poll() is not None:
                raise AssertionError(f"the controller ended: {self.log.read_text()[-3000:]}")
            try:
                self.client.get("/v1/ping")
                return self
            except StelaeError:
                time.sleep(0.02)
        raise AssertionError(f"the controller does not answer: {self.log.read_text()[-3000:]}")

    @property
    def client(self) -> Client:
        return Client(self.installation.socket)

    def kill(self) -> None:
        """SIGKILL the controller, and only it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the controller as a service manager does."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.controller is not None:
            self.controller.send_signal(number)
            self.controller.wait(30)
            self.controller = None

    def cli(
        self, *arguments: object, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line as a person would, in the app's folder."""
        done = subprocess.run(
            [sys.executable, "-m", "stelae.cli", *map(str, arguments)],
            cwd=cwd or (self.app if self.app.is_dir() else self.folder), capture_output=True, text=True, timeout=300,
            env={**os.environ, **GIT_ENV, "STELAE_SOCKET": str(self.installation.socket)}, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def background(self, *arguments: object) -> subprocess.Popen[str]:
        """Run the command line beside the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "stelae.cli", *map(str, arguments)], cwd=self.app, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **GIT_ENV, "STELAE_SOCKET": str(self.installation.socket)},
        )  # fmt: skip

    def json(self, *arguments: object) -> Any:
        """Run the command line with --json and return what it printed."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.app,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **GIT_ENV},
        )
        return done.stdout.strip()

    def use(self, source: Path = GUESTBOOK) -> Machine:
        """Make the app's repository from the example at *source*."""
        shutil.copytree(source, self.app, ignore=shutil.ignore_patterns("__pycache__"))
        self.git("init", "-q", "-b", "main")
        return self.commit("first")

    def commit(self, message: str) -> Machine:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self

    def edit(self, file: str, old: str, new: str) -> Machine:
        """Change one file of the app; *old* must be there."""
        path = self.app / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new))
        return self

    def write(self, file: str, text: str) -> Machine:
        (self.app / file).write_text(text)
        return self

    def version(self, number: str) -> Machine:
        """Make the next version of the guestbook, committed."""
        (self.app / "app" / "version.py").write_text(f'"""The version."""\n\nVERSION = "{number}"\n')
        return self.commit(f"version {number}")

    def keep_seed(self) -> None:
        """Keep what was built for later test runs."""
        own = self.installation
        keep((own.images, own.layers, own.cache, own.inputs), SEED)

    def status(self, environment: str = "testing") -> dict[str, Any]:
        """One row of the status."""
        rows: list[dict[str, Any]] = self.json("status")["environments"]
        return next(row for row in rows if row["environment"] == environment)

    def ready(self, environment: str = "testing") -> tuple[int, int]:
        """Return how many instances of ``web`` are ready in *environment*, and how many are wanted."""
        web = self.status(environment)["processes"]["web"]
        return web["ready"], web["wanted"]

    def until(self, what: str, condition: Any, seconds: float = 30) -> None:
        """Wait until *condition* holds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds:g} s: {what}\n{self.cli('status', check=False).stdout}")

    def at_rest(self, seconds: float = 60) -> None:
        """Wait until nothing moves: no rollout, what is wanted has its traffic, and record and machine are equal."""

        def quiet() -> bool:
            rows = self.json("status")["environments"]
            still = all(row["state"] in ("steady", "down", "empty") for row in rows)
            served = all(row["traffic"] for row in rows if row["state"] == "steady" and "web" in row["processes"])
            return still and served and not self.differences()

        self.until("at rest", quiet, seconds)

    def differences_soon(self, seconds: float = 40) -> list[str]:
        """Like ``differences``, but what is still ending may end first."""
        deadline = time.monotonic() + seconds
        while (found := self.differences()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def differences(self) -> list[str]:
        """What is on the machine and not in the record, or the other way round; empty when they are equal."""
        record = self.client.get("/v1/state", at=2**52, environment="")
        expected, routed, images = set(), set(), set()
        for env in record["environments"]:
            names = {f"{env['app']}/{env['environment']}/{item['id']}" for item in env["instances"]}
            expected |= names
            images |= {env["image"] for item in env["instances"] if item["release"] == env["release"]}
            routed |= {f"{env['app']}/{env['environment']}/{name}" for name in env["table"]}
        there = list_all(self.installation)
        kinds = {
            "cgroups": there.cgroups, "netns": there.netns, "conmons": there.conmons, "addresses": there.addresses
        }  # fmt: skip
        found = [f"{what}: {sorted(set(have) ^ expected)}" for what, have in kinds.items() if set(have) != expected]
        if len(there.veths) != len(expected):
            found.append(f"veths: {len(there.veths)} for {len(expected)} instances")
        router = HaproxyRouter(self.installation)
        found += router.check()
        slots = set()
        for backend in self._proxy_table().backends:
            for slot in backend.slots:
                if slot is not None and not slot.draining:
                    slots.add(f"{backend.environment}/{slot.instance}")
        if slots != routed:
            found.append(f"proxy servers: {sorted(slots ^ routed)}")
        pid = self.controller.pid if self.controller is not None else None
        return found + exact.all_of(self.installation, expected, images, pid, self.held)

    def _proxy_table(self) -> Table:
        file = layout_of(self.installation).state
        return from_json(file.read_bytes(), str(file))

    def power_off(self) -> None:
        """End every process and unmount everything, as a power-off does; only the state folder is left."""
        self.kill()
        status = supervisor_status(layout_of(self.installation))
        if status is not None:
            os.kill(status.pid, signal.SIGKILL)
            for worker in status.workers:
                os.kill(worker.pid, signal.SIGKILL)
        teardown(self.installation)
        for mount in reversed(mounts_below(self.installation.run)):
            unmount(mount.point, MNT_DETACH)
        shutil.rmtree(self.installation.run)

    def close(self) -> None:
        """Take everything away, whatever state it is in."""
        for controller in self._spawned:  # also one that a test has stopped or replaced
            controller.kill()
            controller.wait(10)
        self.problems = self.log.read_text() if self.log.exists() else ""
        stop_supervisor(self.installation)
        teardown(self.installation)
        for mount in reversed(mounts_below(self.folder)):
            unmount(mount.point, MNT_DETACH)
        shutil.rmtree(self.folder, ignore_errors=True)
