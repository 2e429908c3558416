"""The proxy's supervisor: a small process that holds the listening socket and keeps HAProxy running behind it.

    python -m stelae.platforms.local.proxy.supervisor --run DIR --address A --port P [--cgroup PATH]

It outlives the controller. While HAProxy is dead the kernel takes connections into the socket's backlog, so
none is refused. SIGHUP starts a new worker from the configuration file and retires the old one when the new one
answers; SIGTERM ends everything. What it knows is in ``supervisor.json``. The process detaches itself: the
command returns when the socket listens, with status 0, or with status 1 and a sentence on standard error.
Standard library only, so that it starts quickly and stays small.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from stelae.platforms.local.proxy.layout import Layout
from stelae.platforms.local.proxy.workers import Workers, orphans_of

_LOCK_TRIES = 50
_BIND_TRIES = 25
_TRY_EVERY = 0.02
_BACKLOG = 4096


def main() -> int:
    """Start the supervisor in the background; see the module's text."""
    parser = argparse.ArgumentParser(prog="stelae proxy supervisor")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cgroup", default="")
    arguments = parser.parse_args()
    layout = Layout(arguments.run)
    reading, writing = os.pipe()
    if os.fork() != 0:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            problem = pipe.read()
        sys.stderr.write(problem)
        return 1 if problem else 0
    os.setsid()
    os.close(reading)
    try:
        lock = _lock(layout)
        if arguments.cgroup:
            move_to_cgroup(arguments.cgroup)
        adopted = orphans_of(layout)
        listener = _listen(arguments.address, arguments.port)
    except OSError as error:
        os.write(writing, f"{error.strerror or error}\n".encode())
        os._exit(1)
    _detach()
    workers = Workers(layout, listener, address=arguments.address, port=arguments.port, adopted=adopted)
    workers.start()
    os.close(writing)
    _run(workers)
    os.close(lock)
    return 0


def _lock(layout: Layout) -> int:
    """Return the locked descriptor; raises OSError when another supervisor has it."""
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):  # one who only asks whether we run holds it for a moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_TRY_EVERY)
        else:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
    raise OSError("another supervisor runs")


def _listen(address: str, port: int) -> socket.socket:
    """Return the listening socket. Workers of a supervisor that was killed may still hold the port for a moment."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for attempt in range(_BIND_TRIES):
        try:
            listener.bind((address, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            if attempt == _BIND_TRIES - 1:
                raise OSError(f"cannot listen on {address}:{port}: {error.strerror or error}") from error
            time.sleep(_TRY_EVERY)
        else:
            break
    listener.setblocking(False)
    return listener


def _detach() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _run(workers: Workers) -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the number comes through the pipe
    while True:
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        for descriptor in workers.descriptors():
            poll.register(descriptor, select.POLLIN)
        events = {descriptor for descriptor, _ in poll.poll(workers.wait_milliseconds())}
        received = os.read(reading, 4096) if reading in events else b""
        if signal.SIGTERM in received or signal.SIGINT in received:
            workers.end()
            return
        workers.look()
        if signal.SIGHUP in received:
            workers.reload()


def move_to_cgroup(path: str) -> None:
    """Move this process to cgroup *path* (made if missing) of the hierarchies by which systemd ends a service:
    cgroup v2's, and on older machines its own; raises OSError when there is neither."""
    moved = False
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            folder = Path(fields.split(" ")[4]) / path.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.procs").write_text(str(os.getpid()))
            moved = True
    if not moved:
        raise OSError("this machine has no cgroups that a service is ended by")


if __name__ == "__main__":
    sys.exit(main())
