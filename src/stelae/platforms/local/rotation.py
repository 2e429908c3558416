"""Keeping an instance's output small without losing a line.

conmon's own limit throws the old file away, so it is not used. Instead conmon is told to open its log anew
(``2 0 0`` on its control FIFO), upon which it replaces ``log`` by a new file. Before that, the present file
has got a second name, ``log.NNNNNN``, so at no moment is a file that has lines without a name, wherever a
crash comes.
"""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.units import HOUR, MIB, Duration
from stelae.platforms.local.logs import log_files
from stelae.platforms.local.place import Place
from stelae.system.clock import now
from stelae.system.installation import Installation

_REOPEN = b"2 0 0\n"
_PATIENCE = 2.0  # seconds that conmon gets to open its log anew


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """How much output is kept: *size* bytes a file, *files* old files an instance; of removed instances the
    last *instances* of each environment, for *age* at most."""

    size: int = 10 * MIB
    files: int = 4
    instances: int = 20
    age: Duration = 7 * 24 * HOUR


def rotate(place: Place, policy: LogPolicy) -> bool:
    """Start a new file when the present one is larger than the policy's size; true when that happened."""
    try:
        before = place.log.stat()
    except FileNotFoundError:
        return False
    if before.st_size <= policy.size:
        return False
    _name(place)
    if not _ask_to_reopen(place.control):
        return False
    deadline = time.monotonic() + _PATIENCE
    while _inode(place.log) in (before.st_ino, 0):
        if time.monotonic() > deadline:
            return False  # asked already; the next time sees whether it was done
        time.sleep(0.001)
    _name(place)
    for _, old in log_files(place.logs)[: -(policy.files + 1)]:
        old.unlink(missing_ok=True)
    return True


def prune(installation: Installation, app: str, environment: str, policy: LogPolicy) -> None:
    """Delete the output of removed instances that are too many or too old."""
    folders = [top / app / environment for top in (installation.instances, installation.run / "logs")]
    alive = installation.run / "instances" / app / environment
    found = [path for folder in folders for path in _subfolders(folder) if not (alive / path.name).exists()]
    removed = sorted(((path.stat().st_mtime_ns // 1000, path) for path in found), reverse=True)
    for index, (at, path) in enumerate(removed):
        if index >= policy.instances or at < now() - policy.age:
            shutil.rmtree(path, ignore_errors=True)


def _subfolders(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from (path for path in folder.iterdir() if path.is_dir())


def _name(place: Place) -> None:
    """Give the present file its own name, unless it has one."""
    found = log_files(place.logs)
    if found and found[-1][1] == place.log:
        last = int(found[-2][1].suffix[1:]) if len(found) > 1 else 0
        os.link(place.log, place.logs / f"log.{last + 1:06}")


def _ask_to_reopen(fifo: Path) -> bool:
    """Send the order, unless one waits to be read: two in a row would replace a file that has no name yet."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no conmon reads it: it has ended
        return False
    try:
        waiting = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
        return waiting[0] == 0 and os.write(descriptor, _REOPEN) == len(_REOPEN)
    finally:
        os.close(descriptor)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
