"""The controller's process on this machine: start it, wait for it, stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from stelae.controller import units
from stelae.controller.client import Client, Json
from stelae.domain.errors import Failed, Unreachable
from stelae.system.command import last_lines
from stelae.system.installation import Installation

START_LIMIT = 60.0
STOP_LIMIT = 30.0
_POLL = 0.02


def running(client: Client) -> Json | None:
    """Return what the controller says of itself, or None when none answers."""
    try:
        return client.get("/v1/ping")
    except Unreachable:
        return None


def start(client: Client, installation: Installation) -> Json:
    """Start the controller, as a service where there is one, else as a process of its own; return its answer.

    Raises Failed with the last lines of its log when it ends before it answers.
    """
    if units.is_service(installation):
        units.systemctl("start", units.unit_name(installation))
        return _wait(client, None, None)
    log = installation.state / "controller.log"
    try:
        installation.state.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                units.command_line(installation), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, cwd="/",
            )  # fmt: skip
    except OSError as error:
        raise Failed(f"the controller cannot be started: {error.strerror}", where=str(error.filename)) from error
    return _wait(client, process, log)


def _wait(client: Client, process: subprocess.Popen[bytes] | None, log: Path | None) -> Json:
    deadline = time.monotonic() + START_LIMIT
    while (answer := running(client)) is None:
        if process is not None and process.poll() is not None:
            raise Failed(
                f"the controller ended with status {process.returncode} before it answered", where=str(log),
                details=last_lines(log.read_bytes()) if log else (), hint="stelae doctor examines the machine",
            )  # fmt: skip
        if time.monotonic() > deadline:
            where = str(log) if log else "journalctl -u stelae"
            raise Failed(f"the controller does not answer within {START_LIMIT:g} s", where=where)
        time.sleep(_POLL)
    return answer


def stop(client: Client, installation: Installation) -> bool:
    """Stop the controller and wait until it is gone; instances and traffic go on. False when none was running."""
    answer = running(client)
    if answer is None:
        return False
    if units.is_service(installation):
        units.systemctl("stop", units.unit_name(installation))
        return True
    pid = int(answer["pid"])
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise Failed(f"the controller (process {pid}) is another user's", hint="become root") from error
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + STOP_LIMIT
    while _exists(pid):
        if time.monotonic() > deadline:
            raise Failed(f"the controller (process {pid}) does not end within {STOP_LIMIT:g} s after SIGTERM")
        time.sleep(_POLL)
    return True


def _exists(pid: int) -> bool:
    """True while the process runs; one that only waits for its parent does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False
