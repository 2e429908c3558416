"""The OCI runtime (crun, else runc) and conmon, the monitor that outlives the controller.

conmon is started in a session of its own, waits on its start pipe until it is in its control group, forks
away, has the runtime create the container and answers on its sync pipe with one line of JSON:
``{"data": PID}`` or ``{"data": -1, "message": TEXT}`` (conmon's API version 1).
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelae.domain.errors import Failed, Unreachable
from stelae.domain.job import GRACE
from stelae.domain.run import Debug
from stelae.domain.units import SECOND, Duration
from stelae.platforms.local.cgroup import CGROUP_ROOT, Cgroups
from stelae.platforms.local.place import Place, exits_folder
from stelae.platforms.local.process import ProcessId, identify
from stelae.system.command import last_lines, run
from stelae.system.installation import Installation

CREATE_SECONDS = 30.0
_LATER = 20  # seconds that a controller gets to end a debug session itself
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


class WaitingConmon:
    """A conmon, in its control group, that waits for the word to have its container created.

    To move a process into a group takes the kernel some milliseconds; this way they pass while the bundle
    and the network are made. Leaving the ``with`` block without that word ends it.
    """

    def __init__(self, place: Place, runtime: Runtime, cgroups: Cgroups, talk: Sequence[str] = ()) -> None:
        """Start it, with what it is told of a debug session by *talk* (see ``talking``)."""
        self._place = place
        conmon = shutil.which("conmon")
        if conmon is None:
            raise Unreachable("conmon is not installed", hint="install the package conmon")
        self._answer, sync = os.pipe()
        start, self._start = os.pipe()
        try:
            self._process = subprocess.Popen(
                _arguments(conmon, place, runtime, talk), cwd="/", start_new_session=True, pass_fds=(sync, start),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=_ENVIRONMENT | {"_OCI_SYNCPIPE": str(sync), "_OCI_STARTPIPE": str(start)},
            )  # fmt: skip
        except BaseException:
            os.close(self._answer)
            os.close(self._start)
            raise
        finally:
            os.close(sync)
            os.close(start)
        try:
            cgroups.place_conmon(place.cid, self._process.pid)
        except OSError as error:
            self.__exit__()
            raise Failed(f"conmon cannot be put into its control group: {error}") from error

    def __enter__(self) -> WaitingConmon:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        self._process.__exit__(None, None, None)
        os.close(self._start)
        os.close(self._answer)

    def create(self) -> tuple[ProcessId, ProcessId]:
        """Have the container of the bundle created; return its first process and the conmon that stays.

        Raises Failed with the runtime's words.
        """
        os.write(self._start, b"\0")
        if self._process.wait() != 0:  # it forks away; the child is the monitor
            words = self._process.stderr.read() if self._process.stderr else b""
            raise Failed(f"conmon ended with status {self._process.returncode}", details=last_lines(words))
        reply = _reply(self._answer, self._place)
        if reply.get("data", -1) <= 0:
            raise Failed(f"no container: {_words(str(reply.get('message', 'conmon ended without a word')))}")
        process = identify(int(reply["data"]))
        monitor = identify(int((self._place.folder / "conmon.pid").read_text()))
        if process is None or monitor is None:
            raise Failed(f"{self._place.key} ended before it was started")
        return process, monitor


def talking(debug: Debug, limit: Duration) -> list[str]:
    """Return what conmon is told of a debug session: to keep nothing of what is said, and to end it by SIGKILL some
    time after its *limit*, in case no controller is there to do so earlier."""
    way = "--stdin" if debug.window is None else "--terminal"
    seconds = min((limit + GRACE) // SECOND + _LATER, 2**31 - 1)
    return ["--log-path", "null:", way, "--timeout", str(seconds)]


def _arguments(conmon: str, place: Place, runtime: Runtime, talk: Sequence[str]) -> list[str]:
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
    }
    words = [word for option in options.items() for word in option]
    return [conmon, *words, *(talk or ("--log-path", f"k8s-file:{place.log}")), "--full-attach", "--no-sync-log"]


def _words(message: str) -> str:
    """Return what the runtime says of a failure, without the frame of its log lines
    (runc: ``time="…" level=error msg="…"``, the words quoted as in Go)."""
    framed = re.findall(r'\bmsg="((?:[^"\\]|\\.)*)"', message)
    found = [text.replace('\\"', '"').replace("\\\\", "\\") for text in framed] or last_lines(message.encode(), 3)
    return "; ".join(found)


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
