"""What the test inside the machine is written with: commands, requests, control groups; standard library only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STELAE = "/opt/stelae/bin/stelae"
PYTHON = "/opt/stelae/bin/python"
TOOLS = "/opt/tests"
PATIENCE = 10
"""How many times as long as on a machine of its own everything may take in tests that are made for those."""
CGROUPS = Path("/sys/fs/cgroup")
SCOPE = "/stelae.slice/stelae-hold.scope"
HOSTS = {"shop/testing": "shop.testing.localhost", "shop/production": "shop.example.com"}
"""The environments that must serve, and by which name."""


def tell(text: str) -> None:
    """Write one line to the second serial port."""
    print(f"[test] {text}", flush=True)
    with open("/dev/ttyS1", "w") as port:  # noqa: PTH123 - a device
        port.write(" ".join(text.split()) + "\n")


def run(*command: str | Path, cwd: Path | None = None, status: int = 0) -> str:
    """Run a command, show what it says, and return that; fails unless it ends with *status*."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=400, check=False,
    )  # fmt: skip
    print("$", *command, "->", done.returncode)
    if "--json" not in command:
        print(done.stdout, flush=True)
    assert done.returncode == status, f"{command} ended with {done.returncode}: {done.stdout[-1500:]}"
    assert "Traceback" not in done.stdout, done.stdout[-1500:]
    return done.stdout


def suite(*words: str) -> str:
    """Run tests of the repository that was brought along; return how many passed. Fails when one fails, or is not
    run."""
    done = subprocess.Popen(
        [PYTHON, "-u", "-m", "pytest", "-v", "-rA", "--tb=short", "--no-header", "-p", "no:cacheprovider",
         f"--timeout={300 * PATIENCE}", *words],
        cwd=HERE / "repository", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "PYTHONPATH": TOOLS, "STELAE_TEST_PATIENCE": str(PATIENCE)},
    )  # fmt: skip
    said = "it says nothing"
    with done:
        assert done.stdout is not None
        for line in done.stdout:
            print(line, end="", flush=True)
            if found := re.fullmatch(r"=+ (\d+ .*) in [\d.]+s.*=+\n", line):
                said = found[1]
    assert done.returncode == 0, said
    assert re.fullmatch(r"\d+ passed", said), said
    return said


def until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def answers(environment: str, path: str = "/", timeout: float = 30) -> str:
    """Return what the environment answers; raises OSError when it does not."""
    request = urllib.request.Request(f"http://127.0.0.1:8080{path}", headers={"Host": HOSTS[environment]})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return str(response.read().decode())


def serves(environment: str) -> bool:
    """True when the environment answers now."""
    time.sleep(0.3)  # what it is about to see has need of the processor
    try:
        return answers(environment, timeout=5) != ""
    except OSError:
        return False


def status() -> dict[str, Any]:
    """Return release, counts and state of each environment, once the controller answers."""
    rows = json.loads(run(STELAE, "status", "--json"))["environments"]
    return {f"{row['app']}/{row['environment']}": row for row in rows}


def instances() -> dict[str, list[int]]:
    """Return the processes of each instance, from the control groups."""
    folder = CGROUPS / SCOPE.lstrip("/") / "instances"
    return {path.parent.name: pids_of(path) for path in folder.glob("*/cgroup.procs")}


def programs() -> dict[str, int]:
    """Return the first process of each instance."""
    return {name: pids[0] for name, pids in instances().items() if pids}


def pids_of(path: Path) -> list[int]:
    """Return the processes that a cgroup.procs names."""
    return sorted(int(line) for line in path.read_text().split())


def group_of(pid: int) -> str:
    """Return the control group of a process."""
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def processes(*names: str) -> list[int]:
    """Return the processes whose programs are called so."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() in names:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class Traffic:
    """Requests to every environment, one after the other, for as long as the block lasts; none may fail."""

    def __enter__(self) -> Traffic:
        self.ok = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if error[0] is None:
            assert not self.failures, f"{self.ok} answered, failed: {self.failures[:5]}"
            assert self.ok, "no request was answered"

    def _run(self) -> None:
        while not self._stop.is_set():
            for environment in HOSTS:
                try:
                    answers(environment)
                    self.ok += 1
                except OSError as error:
                    self.failures.append(str(error))
            time.sleep(0.1)
