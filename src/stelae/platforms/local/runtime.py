"""The OCI runtime (crun, else runc) and conmon, the monitor that outlives the controller.

conmon is started in a session of its own, waits on its start pipe until it is in its control group, forks
away, has the runtime create the container and answers on its sync pipe with one line of JSON:
``{"data": PID}`` or ``{"data": -1, "message": TEXT}`` (conmon's API version 1).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelae.domain.errors import Failed, Unreachable
from stelae.platforms.local.cgroup import CGROUP_ROOT, Cgroups
from stelae.platforms.local.place import Place, exits_folder
from stelae.platforms.local.process import ProcessId, identify
from stelae.system.command import last_lines, run
from stelae.system.installation import Installation

CREATE_SECONDS = 30.0
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Runtime:
    """One OCI runtime, with its state in a folder of this installation's own."""

    binary: str
    state: Path

    @property
    def _command(self) -> list[str]:
        return [self.binary, f"--root={self.state}"]

    def start(self, cid: str) -> None:
        """Start the program of a created container; raises Failed."""
        run([*self._command, "start", cid])

    def status(self, cid: str) -> str:
        """Return ``created``, ``running`` or ``stopped``; "" when the runtime does not know the container."""
        output = run([*self._command, "state", cid], check=False)
        return str(json.loads(output.stdout)["status"]) if output.status == 0 else ""

    def delete(self, cid: str) -> None:
        """Make the runtime forget the container, whatever state it is in."""
        if (self.state / cid).exists():
            run([*self._command, "delete", "--force", cid], check=False)
            # what a runtime that was killed half-way has left is not a container to it
            shutil.rmtree(self.state / cid, ignore_errors=True)


def runtime_of(installation: Installation, binary: str) -> Runtime:
    """Return the runtime *binary* with its state in the installation's run folder."""
    return Runtime(binary, installation.run / "runtime")


def choose_runtime(root: Path = CGROUP_ROOT) -> str:
    """Return the path of crun; of runc where crun is missing or refuses the host; raises Unreachable.

    crun refuses v1 hierarchies beside a v2 one that has controllers ("hybrid mode").
    """
    controllers = root / "unified" / "cgroup.controllers"
    hybrid = controllers.exists() and controllers.read_text().strip() != ""
    for name in ("runc",) if hybrid else ("crun", "runc"):
        if (path := shutil.which(name)) is not None:
            return path
    wanted = "runc" if hybrid else "crun"
    raise Unreachable(f"{wanted} is not installed", hint=f"install the package {wanted}")


def create(place: Place, runtime: Runtime, cgroups: Cgroups) -> tuple[ProcessId, ProcessId]:
    """Create the container of the bundle at *place*; return its first process and its conmon.

    Raises Failed with the runtime's words, Unreachable when conmon is not installed.
    """
    conmon = shutil.which("conmon")
    if conmon is None:
        raise Unreachable("conmon is not installed", hint="install the package conmon")
    sync_read, sync_write = os.pipe()
    with os.fdopen(sync_read, "rb", buffering=0) as answer:
        try:
            _spawn(_arguments(conmon, place, runtime), place.cid, cgroups, sync_write)
        finally:
            os.close(sync_write)
        reply = _reply(answer.fileno(), place)
    if reply.get("data", -1) <= 0:
        raise Failed(
            f"{Path(runtime.binary).name} could not create {place.key}",
            details=last_lines(str(reply.get("message", "conmon ended without a word")).encode()),
        )
    process = identify(int(reply["data"]))
    monitor = identify(int((place.folder / "conmon.pid").read_text()))
    if process is None or monitor is None:
        raise Failed(f"{place.key} ended before it was started")
    return process, monitor


def _arguments(conmon: str, place: Place, runtime: Runtime) -> list[str]:
    options = {
        "--api-version": "1",
        "--cid": place.cid,
        "--cuuid": place.cid,
        "--name": place.cid,
        "--runtime": runtime.binary,
        "--runtime-arg": f"--root={runtime.state}",
        "--bundle": str(place.folder),
        "--container-pidfile": str(place.folder / "pid"),
        "--conmon-pidfile": str(place.folder / "conmon.pid"),
        "--exit-dir": str(exits_folder(place.installation)),
        "--log-path": f"k8s-file:{place.log}",
    }
    flags = ["--full-attach", "--no-sync-log", "--no-new-keyring"]
    return [conmon, *(word for option in options.items() for word in option), *flags]


def _spawn(arguments: list[str], cid: str, cgroups: Cgroups, sync: int) -> None:
    """Start conmon, put it in its control group, let it go on, and wait until it has forked away."""
    start_read, start_write = os.pipe()
    try:
        monitor = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            cwd="/", start_new_session=True, pass_fds=(sync, start_read),
            env=_ENVIRONMENT | {"_OCI_SYNCPIPE": str(sync), "_OCI_STARTPIPE": str(start_read)},
        )  # fmt: skip
    except BaseException:
        os.close(start_write)
        raise
    finally:
        os.close(start_read)
    with monitor:
        try:
            cgroups.place_conmon(cid, monitor.pid)
            os.write(start_write, b"\0")
        except OSError as error:
            monitor.kill()
            raise Failed(f"conmon cannot be put into its control group: {error}") from error
        finally:
            os.close(start_write)
        if monitor.wait() != 0:
            words = monitor.stderr.read() if monitor.stderr else b""
            raise Failed(f"conmon ended with status {monitor.returncode}", details=last_lines(words))


def _reply(descriptor: int, place: Place) -> dict[str, Any]:
    """Return conmon's answer; {} when it ended without one. Raises Failed when none comes in time."""
    deadline = time.monotonic() + CREATE_SECONDS
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    data = b""
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise Failed(f"the container of {place.key} was not created within {CREATE_SECONDS:g} s")
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        data += chunk
    try:
        reply = json.loads(data or b"{}")
    except ValueError:  # conmon 2.1.6 escapes the message only in part
        return {"data": -1, "message": data.decode("utf-8", "replace")}
    return reply if isinstance(reply, dict) else {}
