"""Looking at instances that were launched, cheaply: a pidfd for each is kept open and polled."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from dataclasses import dataclass

from stelae.domain.observation import Exit
from stelae.domain.units import Duration
from stelae.platforms.local import record
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.exits import read_exit
from stelae.platforms.local.place import Place
from stelae.platforms.local.process import identify, open_process
from stelae.platforms.local.record import Record, Stage
from stelae.platforms.port import EngineInstance
from stelae.system.clock import now


@dataclass
class Handle:
    """One launched instance. ``pidfd`` is None when its first process is known to be gone; ``cpu`` is the processor
    time that it had used at the last look."""

    place: Place
    record: Record
    pidfd: int | None
    exit: Exit | None = None
    cpu: Duration | None = None

    def close(self) -> None:
        """Let go of the process."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def seen(self) -> EngineInstance:
        """Return the instance as its last look found it."""
        return EngineInstance(
            id=self.place.instance, running=self.exit is None, address=str(self.record.address), exit=self.exit,
            cpu=self.cpu,
        )  # fmt: skip


def open_handle(place: Place) -> Handle | None:
    """Return a handle of the instance at *place*; None when it was not launched, or not to the end."""
    found = record.load(place)
    if found is None or found.stage is not Stage.STARTED or found.process is None:
        return None
    return Handle(place, found, open_process(found.process))


def look(handles: Iterable[Handle], cgroups: Cgroups) -> None:
    """Find out which of *handles* have ended since the last look, and what the others have used."""
    poller = select.poll()
    watched = {}
    for handle in handles:
        if handle.pidfd is not None:
            watched[handle.pidfd] = handle
            handle.cpu = cgroups.cpu(handle.place.cid)
            poller.register(handle.pidfd, select.POLLIN)
        elif handle.exit is None:
            _settle(handle, cgroups)
    for descriptor, _ in poller.poll(0):
        watched[descriptor].close()
        _settle(watched[descriptor], cgroups)


def _settle(handle: Handle, cgroups: Cgroups) -> None:
    """Learn the exit of an instance whose process is gone, unless its conmon is still about to tell."""
    conmon = handle.record.conmon
    telling = conmon is not None and identify(conmon.pid) == conmon
    if telling and not handle.place.exit.exists():
        return
    handle.exit = read_exit(handle.place, cgroups, fallback_at=now())
