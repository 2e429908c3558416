"""A controller at rest over real instances: what it costs to hold 50 of them, and to ask each every second."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.real import tiny
from tests.real.machine import Machine

from stelae.platforms.local.proxy.launch import layout_of, supervisor_status

INSTANCES = 50
SETTLED = 3.0  # seconds between the end of the deployment and the beginning of the measurement
_TICKS = os.sysconf("SC_CLK_TCK")


def bring_up(machine: Machine, count: int = INSTANCES) -> float:
    """Deploy *count* instances of the tiny app; return the seconds that the deployment took."""
    tiny.make(machine)
    spec = (machine.app / "stelae.toml").read_text()
    for old, new in (("web = 2", f"web = {count}"), ('interval = "500ms"', 'interval = "1s"')):
        assert old in spec
        spec = spec.replace(old, new)
    machine.write("stelae.toml", spec).commit("many")
    machine.cli("env", "apply")
    image = machine.json("build")["image"]
    began = time.perf_counter()
    machine.cli("deploy", "testing", "--image", image)
    took = time.perf_counter() - began
    machine.at_rest()
    time.sleep(SETTLED)
    return took


class Meter:
    """What the processes of a machine have used since the meter was made."""

    def __init__(self, machine: Machine) -> None:
        assert machine.controller is not None
        status = supervisor_status(layout_of(machine.installation))
        assert status is not None
        self._controller = machine.controller.pid
        self._groups = {
            "controller": [self._controller],
            "proxy and its supervisor": [status.pid, *(worker.pid for worker in status.workers)],
            "conmons": [pid for pid in _processes() if _is_conmon(pid, machine.installation.name)],
        }
        self._logs = sorted(machine.installation.instances.glob("tiny/testing/*/log"))
        self._asked = self._probes()
        self._began = time.perf_counter()
        self._before = self._spent()

    def read(self) -> dict[str, float]:
        """Return the share of a core of each group, in percent, and the controller's memory in MiB."""
        passed = time.perf_counter() - self._began
        found = {name: 100 * (now - self._before[name]) / passed for name, now in self._spent().items()}
        return {
            **found, "MiB": _memory(self._controller), "conmons there": len(self._groups["conmons"]),
            "probes/s": (self._probes() - self._asked) / passed,
        }  # fmt: skip

    def _probes(self) -> int:
        """How many requests the instances have written down: nobody but the prober asks."""
        return sum(log.read_bytes().count(b"response:200") for log in self._logs)

    def _spent(self) -> dict[str, float]:
        return {name: sum(map(processor_time, group)) for name, group in self._groups.items()}


def _processes() -> Iterable[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _is_conmon(pid: int, name: str) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[0].endswith(b"conmon") and any(name.encode() in word for word in words)
    return False


def processor_time(pid: int) -> float:
    """User and system time in seconds: fields 14 and 15 of ``/proc/PID/stat`` (proc(5)), of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> float:
    """The most that it ever had in memory: ``VmHWM`` of ``/proc/PID/status``, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
