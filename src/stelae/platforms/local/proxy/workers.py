"""The supervisor's workers: HAProxy processes of one listening socket, each start a generation of its own.

A worker that is retired closes its side of the listening socket (``shutdown frontend``) but keeps its runtime
socket, unlike after SIGUSR1, so that its open connections can still be counted and its servers still be taken out.
It answers what comes on connections it has, closes each after the answer, and ends when the last one is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelae.platforms.local.proxy.counts import SHOW_ALL, read_kept
from stelae.platforms.local.proxy.layout import FRONTEND, LISTENER_VARIABLE, SOCKET_VARIABLE, Layout, socket_name
from stelae.platforms.local.proxy.runtime import ask, call
from stelae.platforms.local.proxy.shape import shape_of
from stelae.system.files import write_atomic

_READY_POLL = 0.005
_RETIRED_POLL = 0.5
_START_LIMIT = 10.0
_SHORT_LIFE = 1.0
_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 5.0
_END_LIMIT = 2.0
_LOG_POLL = 60.0
_LOG_LINES = 5
_LOG_LIMIT = 1 << 20
_SERVER = re.compile(rb"^(  server .*?)(?: disabled)?$", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Worker:
    """One HAProxy process. ``watch`` is its pidfd, ``shape`` that of its configuration; ``process`` is None for one
    that a dead supervisor left."""

    pid: int
    generation: int
    started: float
    watch: int
    shape: str = ""
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    retired: bool = False

    def signal(self, number: int) -> None:
        """Send a signal; no harm when the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.watch, number)

    def gone(self) -> bool:
        """True when the process has ended; a child is reaped."""
        if self.process is not None:
            return self.process.poll() is not None
        # Readable when it has ended, though its new parent may not have reaped it yet.
        return bool(select.select([self.watch], [], [], 0)[0])


def orphans_of(layout: Layout) -> list[Worker]:
    """Return the workers that a killed supervisor left running, retired: the port that they hold is needed."""
    found = []
    for item in read_status(layout).get("workers", []):
        pid, generation = item["pid"], item["generation"]
        try:
            watch = os.pidfd_open(pid)
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            same = Path(f"/proc/{pid}/cwd").samefile(layout.folder)
        except OSError:
            continue
        if not same or f"{SOCKET_VARIABLE}={socket_name(generation)}".encode() not in environment:
            os.close(watch)  # the number belongs to another process now
            continue
        worker = Worker(
            pid=pid, generation=generation, started=0, watch=watch, shape=item.get("shape", ""), ready=True
        )
        _retire(layout, worker)
        found.append(worker)
    return found


def read_status(layout: Layout) -> dict[str, Any]:
    """Return what a supervisor wrote last, empty when none did."""
    try:
        status = json.loads(layout.status.read_bytes())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


class Workers:
    """Starts, watches, retires and ends the workers, and writes ``supervisor.json`` whenever something changed."""

    def __init__(
        self, layout: Layout, listener: socket.socket, *, address: str, port: int, adopted: list[Worker]
    ) -> None:
        self._layout = layout
        self._listener = listener
        self._where = {"address": address, "port": port}
        self._workers = adopted
        self._kept = read_kept(layout.kept)
        known = {item["generation"] for item in read_status(layout).get("workers", [])}
        if not self._kept.began or known - {worker.generation for worker in adopted} - self._kept.ended.keys():
            self._begin_anew()
        self._generation = max((worker.generation for worker in adopted), default=0)
        self._generation = max(self._generation, int(read_status(layout).get("generation", 0)))
        self._short_lives = 0  # lives in a row that were short, for the pause before the next
        self._failed_starts = 0  # starts in a row that did not come to be ready: a bad configuration
        self._start_at: float | None = None  # when to start a worker again
        self._problem = ""
        self._reloads = 0

    def start(self) -> None:
        """Start a worker; after two that were never ready it gets the last good configuration, without servers:
        which of them are ready now nobody knows, and the router adds those that are."""
        use_fallback = self._failed_starts >= 2 and self._layout.fallback.exists()
        config = self._layout.fallback if use_fallback else self._layout.config
        self._start_at = None
        self._generation += 1
        self._layout.log.unlink(missing_ok=True)
        shape = shape_of(config.read_bytes())
        with self._layout.log.open("ab") as log:
            process = subprocess.Popen(
                ["haproxy", "-db", "-f", config.name], cwd=self._layout.folder,
                env=self._environment(socket_name(self._generation)), pass_fds=[self._listener.fileno()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        worker = Worker(
            pid=process.pid, generation=self._generation, started=time.monotonic(),
            watch=os.pidfd_open(process.pid), shape=shape, process=process,
        )  # fmt: skip
        self._workers.append(worker)
        self._write_status()

    def reload(self) -> None:
        """Start a worker from the configuration file beside the present one; a bad file changes nothing."""
        self._reloads += 1
        checked = subprocess.run(
            ["haproxy", "-c", "-f", self._layout.config.name], cwd=self._layout.folder,
            env=self._environment("check.sock"), pass_fds=[self._listener.fileno()], stdin=subprocess.DEVNULL,
            capture_output=True, check=False,
        )  # fmt: skip
        if checked.returncode != 0:
            self._problem = _last(checked.stderr) or "haproxy refuses its configuration"
            self._write_status()
            return
        self._problem = ""
        self._failed_starts = 0
        self.start()

    def look(self) -> None:
        """See who has ended, who is ready and who can go, and act on it."""
        changed = False
        for worker in [worker for worker in self._workers if worker.gone()]:
            self._forget(worker)
            changed = True
        for worker in self._workers:
            if not worker.ready and _answers(self._layout, worker):
                self._became_ready(worker)
                changed = True
            elif not worker.ready and time.monotonic() - worker.started > _START_LIMIT:
                worker.signal(signal.SIGKILL)
            elif worker.retired and _connections(self._layout, worker) == 0:
                self._part_with(worker)
        if self._start_at is None and not any(not worker.retired for worker in self._workers):
            self._start_at = time.monotonic() + self._backoff()
        if changed:
            self._write_status()
        if self._layout.log.exists() and self._layout.log.stat().st_size > _LOG_LIMIT:
            os.truncate(self._layout.log, 0)  # HAProxy appends: it goes on at the start
        if self._start_at is not None and self._start_at <= time.monotonic():
            self.start()

    def descriptors(self) -> list[int]:
        """Return what becomes readable when a worker ends."""
        return [worker.watch for worker in self._workers]

    def wait_milliseconds(self) -> int:
        """Return how long to wait for an event before ``look`` is due again."""
        waits = [_LOG_POLL]
        waits += [_READY_POLL for worker in self._workers if not worker.ready]
        waits += [_RETIRED_POLL for worker in self._workers if worker.retired]
        if self._start_at is not None:
            waits.append(max(0.0, self._start_at - time.monotonic()))
        return int(min(waits) * 1000) + 1

    def end(self) -> None:
        """End all workers and take away what says that we run."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + _END_LIMIT
        while any(not worker.gone() for worker in self._workers):
            if time.monotonic() > deadline:
                for worker in self._workers:
                    worker.signal(signal.SIGKILL)
            time.sleep(_READY_POLL)
        for worker in self._workers:
            self._layout.socket(worker.generation).unlink(missing_ok=True)
        self._layout.kept.unlink(missing_ok=True)
        self._layout.status.unlink(missing_ok=True)

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath), LISTENER_VARIABLE: str(self._listener.fileno()),
            SOCKET_VARIABLE: name,
        }  # fmt: skip

    def _became_ready(self, worker: Worker) -> None:
        worker.ready = True
        for other in self._workers:
            if other is not worker and not other.retired and other.generation < worker.generation:
                if other.ready:
                    _retire(self._layout, other)
                else:
                    other.signal(signal.SIGKILL)
        if self._failed_starts >= 2:
            self._problem = "runs on the last good configuration, without servers: " + self._problem
        else:
            self._problem = ""
            good = _SERVER.sub(rb"\1 disabled", self._layout.config.read_bytes())
            write_atomic(self._layout.fallback, good, mode=0o600, durable=False)
        self._failed_starts = 0

    def _part_with(self, worker: Worker) -> None:
        """End a retired worker that has nothing left to do, after what it counted is kept."""
        if worker.generation not in self._kept.ended:
            try:
                counts = ask(self._layout.socket(worker.generation), SHOW_ALL).counts
            except OSError:
                return  # it is ending already, or is asked again soon
            self._kept.end(worker.generation, counts)
            self._kept.save(self._layout.kept)
        worker.signal(signal.SIGUSR1)

    def _begin_anew(self) -> None:
        self._kept.begin_anew()
        self._kept.save(self._layout.kept)

    def _forget(self, worker: Worker) -> None:
        if worker.ready and worker.generation not in self._kept.ended:
            self._begin_anew()
        self._workers.remove(worker)
        os.close(worker.watch)
        self._layout.socket(worker.generation).unlink(missing_ok=True)
        if worker.retired:
            return
        if not worker.ready:
            self._failed_starts += 1
            self._problem = _last(self._layout.log.read_bytes()) or "haproxy ended before it was ready"
        short = not worker.ready or time.monotonic() - worker.started < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if short else 0

    def _backoff(self) -> float:
        if self._short_lives == 0:
            return 0.0
        return min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(self._short_lives - 1, 10))

    def _write_status(self) -> None:
        status = {
            "pid": os.getpid(), **self._where, "generation": self._generation, "reloads": self._reloads,
            "problem": self._problem,
            "workers": [
                {
                    "pid": worker.pid, "generation": worker.generation, "ready": worker.ready,
                    "retired": worker.retired, "shape": worker.shape,
                }
                for worker in self._workers
            ],
        }  # fmt: skip
        write_atomic(self._layout.status, json.dumps(status).encode(), mode=0o600, durable=False)


def _retire(layout: Layout, worker: Worker) -> None:
    worker.retired = True
    try:
        call(layout.socket(worker.generation), f"shutdown frontend {FRONTEND}", timeout=1)
    except OSError:
        worker.signal(signal.SIGUSR1)  # it closes its runtime socket too, but does not listen on


def _answers(layout: Layout, worker: Worker) -> bool:
    try:
        return bool(call(layout.socket(worker.generation), "show info", timeout=1))
    except OSError:
        return False


def _connections(layout: Layout, worker: Worker) -> int:
    """Return the open client connections; -1 when the worker does not say (it is ending)."""
    try:
        info = call(layout.socket(worker.generation), "show info", timeout=1)
    except OSError:
        return -1
    return next((int(line[10:]) for line in info.splitlines() if line.startswith("CurrConns:")), -1)


def _last(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LOG_LINES:])
