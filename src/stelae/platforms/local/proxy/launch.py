"""Start, find and stop the proxy's supervisor, and read what it says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.errors import Failed, Unreachable
from stelae.platforms.local.proxy.layout import Layout
from stelae.platforms.local.proxy.workers import read_status
from stelae.system.command import run
from stelae.system.installation import Installation

_STOP_LIMIT = 5.0
_POLL = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One HAProxy process that the supervisor knows. ``socket`` is its runtime socket, ``shape`` that of the
    configuration that it was started with ("" when an older supervisor does not say)."""

    pid: int
    generation: int
    ready: bool
    retired: bool
    socket: Path
    shape: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStatus:
    """What the supervisor says of itself. ``problem`` is why HAProxy does not run as it should, in words."""

    pid: int
    address: str
    port: int
    reloads: int
    problem: str
    workers: tuple[WorkerStatus, ...]


def layout_of(installation: Installation) -> Layout:
    """Return where the installation's proxy has its files."""
    return Layout(installation.run / "proxy")


def supervisor_status(layout: Layout) -> SupervisorStatus | None:
    """Return what the running supervisor says; None when none runs."""
    if not _runs(layout):
        return None
    status = read_status(layout)
    try:
        if status["pid"] != int(layout.lock.read_text()):
            return None  # another one, that was killed, said this
        workers = tuple(
            WorkerStatus(
                pid=item["pid"], generation=item["generation"], ready=item["ready"], retired=item["retired"],
                socket=layout.socket(item["generation"]), shape=item.get("shape", ""),
            )
            for item in status["workers"]
        )  # fmt: skip
        return SupervisorStatus(
            pid=status["pid"], address=status["address"], port=status["port"], reloads=status["reloads"],
            problem=status["problem"], workers=workers,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None  # it starts, and has not said anything yet


def ensure_supervisor(installation: Installation, *, cgroup: str = "") -> None:
    """Start the supervisor unless it runs; one that listens elsewhere is replaced. The configuration must be there.

    *cgroup* is where it moves itself, below the hierarchy's root, so that it does not end with the service that
    started it. Raises Failed when it cannot listen, with the reason.
    """
    layout = layout_of(installation)
    wanted = (installation.http_address, installation.http_port)
    status = supervisor_status(layout)
    if status is not None and (status.address, status.port) == wanted:
        return
    if status is not None:
        stop_supervisor(installation)
    elif _runs(layout):
        return
    arguments = ["--run", str(layout.folder), "--address", wanted[0], "--port", str(wanted[1])]
    if cgroup:
        arguments += ["--cgroup", cgroup]
    try:
        run(
            [sys.executable, "-m", "stelae.platforms.local.proxy.supervisor", *arguments],
            cwd=layout.folder,
            timeout=20,
        )
    except Failed as error:
        if _runs(layout):  # another one was quicker
            return
        raise Failed(
            f"the proxy for {wanted[0]}:{wanted[1]} cannot be started", details=error.details or (error.message,),
            hint="when another program has the port, end it or give the controller another port",
        ) from error  # fmt: skip


def stop_supervisor(installation: Installation) -> None:
    """End the supervisor and HAProxy, and with it every open connection; raises Unreachable when it does not end."""
    layout = layout_of(installation)
    deadline = time.monotonic() + _STOP_LIMIT
    while _runs(layout):
        with contextlib.suppress(OSError, ValueError):  # it has just ended, or has just started
            _end(int(layout.lock.read_text()), deadline)
        if time.monotonic() > deadline:
            raise Unreachable("the proxy's supervisor does not end")
        time.sleep(_POLL)


def _end(pid: int, deadline: float) -> None:
    """Send SIGTERM and wait until the process has ended or *deadline* has passed."""
    watch = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(watch, signal.SIGTERM)
        select.select([watch], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        os.close(watch)


def reload_workers(layout: Layout, supervisor: SupervisorStatus) -> None:
    """Have a new worker started from the configuration file, and wait until it has taken over; raises Failed when
    HAProxy refuses the file, Unreachable when it takes too long."""
    os.kill(supervisor.pid, signal.SIGHUP)
    newest = max((worker.generation for worker in supervisor.workers), default=0)
    deadline = time.monotonic() + 2 * _STOP_LIMIT
    while time.monotonic() < deadline:
        status = supervisor_status(layout)
        if status is not None and status.reloads > supervisor.reloads:
            if any(worker.generation > newest and worker.ready for worker in status.workers):
                return
            if status.problem:
                raise Failed("HAProxy refuses its new configuration", details=(status.problem,))
        time.sleep(_POLL)
    raise Unreachable("the proxy's new worker is not ready in time")


def _runs(layout: Layout) -> bool:
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
