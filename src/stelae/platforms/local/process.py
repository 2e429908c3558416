"""Processes of the machine, told apart from later ones with the same number by their start time."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its number, and when it started in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    started: int


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name, in parentheses, may hold anything; the fields after it may not
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def identify(pid: int) -> ProcessId | None:
    """Return the identity of the process that has number *pid* now, or None when it has ended, reaped or not."""
    started = _start_time(pid)
    return None if started is None else ProcessId(pid, started)


def open_process(process: ProcessId) -> int | None:
    """Return a pidfd for exactly *process*, or None when it is gone. The caller closes it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if _start_time(process.pid) != process.started:  # the number belongs to another process by now
        os.close(descriptor)
        return None
    return descriptor


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Send *number* to exactly *process*; false when it is gone."""
    descriptor = open_process(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
