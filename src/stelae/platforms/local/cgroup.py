"""Control groups of instances, on pure cgroup v2 and on v1 (also hybrid) hosts.

An instance has ``PARENT/instances/CID`` (made by the runtime) and its conmon has ``PARENT/conmon/CID``
(made here), below the root of every hierarchy that is used.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.domain.units import Duration

CGROUP_ROOT = Path("/sys/fs/cgroup")

# On v1 conmon itself is put into the first of these hierarchies that there is: to be found again by it,
# and out of the controller's service. One is enough, and each move costs milliseconds.
_CONMON_V1 = ("systemd", "memory", "pids")

_LIMITS_V2 = ("memory.max", "memory.swap.max", "memory.high", "cpu.max", "cpu.weight", "pids.max")
_LIMITS_V1 = (
    "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares",
    "pids.max", "devices.list",
)  # fmt: skip
_PATIENCE = 5.0  # seconds that a killed process may take to be gone


class Cgroups:
    """The control groups below *parent* (an absolute path such as ``/stelae``)."""

    def __init__(self, parent: str, root: Path = CGROUP_ROOT) -> None:
        self.parent = parent
        self.unified = (root / "cgroup.controllers").exists()
        # on v1, two names of one hierarchy (cpu and cpu,cpuacct) are symbolic links to one mount
        self._roots = (root,) if self.unified else tuple(sorted({item.resolve() for item in root.iterdir()}))
        counting = (item for item in self._roots if self.unified or "cpuacct" in item.name.split(","))
        self._accounts = next(counting, None)
        self.limits_swap = self.unified or (root / "memory/memory.memsw.limit_in_bytes").exists()

    def path(self, cid: str) -> str:
        """Return the container's ``cgroupsPath``."""
        return f"{self.parent}/instances/{cid}"

    def place_conmon(self, cid: str, pid: int) -> None:
        """Move a conmon that waits for its start into its own group."""
        by_name = {root.name: root for root in self._roots}
        root = self._roots[0] if self.unified else next(by_name[name] for name in _CONMON_V1 if name in by_name)
        folder = root / self.parent.lstrip("/") / "conmon" / cid
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(str(pid))

    def oom_kills(self, cid: str) -> int:
        """Return how many processes of the instance the kernel ended for want of memory."""
        below = self.path(cid).lstrip("/")
        for root in self._roots:
            for name in ("memory.events", "memory.oom_control"):
                with suppress(OSError):
                    for line in (root / below / name).read_text().splitlines():
                        key, _, value = line.partition(" ")
                        if key == "oom_kill":
                            return int(value)
        return 0

    def cpu(self, cid: str) -> Duration | None:
        """Return the processor time that the instance has used, all that ended in it included; None where the kernel
        does not tell. Sources: ``usage_usec`` of v2's ``cpu.stat``, v1's ``cpuacct.usage`` in nanoseconds."""
        if self._accounts is None:
            return None
        folder = f"{self._accounts}{self.path(cid)}"
        with suppress(OSError, ValueError):
            if not self.unified:
                return int(_read(f"{folder}/cpuacct.usage")) // 1_000
            name, _, value = _read(f"{folder}/cpu.stat").partition(b"\n")[0].partition(b" ")
            return int(value) if name == b"usage_usec" else None
        return None

    def members(self, cid: str) -> frozenset[int]:
        """Return the processes of the instance, as one hierarchy tells: the same that counts its processor time."""
        if self._accounts is None:
            return frozenset(self._pids(f"instances/{cid}"))
        try:
            return frozenset(map(int, _read_all(f"{self._accounts}{self.path(cid)}/cgroup.procs").split()))
        except OSError:
            return frozenset()

    def limit_files(self, cid: str) -> tuple[str, ...]:
        """Return the files that say what the instance may use, those that this kernel has."""
        names = _LIMITS_V2 if self.unified else _LIMITS_V1
        below = self.path(cid).lstrip("/")
        files = (root / below / name for root in self._roots for name in names)
        return tuple(str(file) for file in files if file.exists())

    def kill(self, cid: str) -> None:
        """End every process of the instance and of its conmon, and wait until they are gone.

        conmon comes first: it would start what is being ended. Raises Failed when a process stays.
        """
        deadline = time.monotonic() + _PATIENCE
        for group in ("conmon", "instances"):
            while pids := self._pids(f"{group}/{cid}"):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if time.monotonic() > deadline:
                    raise Failed(f"processes of {cid} do not end after SIGKILL: {sorted(pids)}")
                time.sleep(0.002)

    def remove(self, cid: str) -> None:
        """Remove the groups of an instance whose processes are gone; raises Failed when they are not."""
        for group in ("conmon", "instances"):
            for folder in self._folders(f"{group}/{cid}"):
                _remove_tree(folder)

    def names(self) -> frozenset[str]:
        """Return the ids of all containers that have a group of either kind in any hierarchy."""
        return frozenset(
            child.name
            for group in ("conmon", "instances")
            for folder in self._folders(group)
            for child in folder.iterdir()
            if child.is_dir()
        )

    def groups(self) -> Iterator[Path]:
        """Yield the folders of all hierarchies that have a folder for each instance, or for its conmon."""
        for group in ("conmon", "instances"):
            yield from self._folders(group)

    def remove_all(self) -> None:
        """Remove the parent and everything below it; raises Failed when a process is still there."""
        for folder in self._folders(""):
            _remove_tree(folder)

    def _folders(self, below: str) -> Iterator[Path]:
        for root in self._roots:
            folder = root / self.parent.lstrip("/") / below
            if folder.is_dir():
                yield folder

    def _pids(self, below: str) -> set[int]:
        found: set[int] = set()
        for folder in self._folders(below):
            for procs in folder.rglob("cgroup.procs"):
                with suppress(OSError):
                    found.update(int(line) for line in procs.read_text().split())
        return found - {0}


def _read(file: str) -> bytes:
    """Return the first bytes of *file*: it is read for each instance at each look, so without anything around it."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _read_all(file: str) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 4096), b""))
    finally:
        os.close(descriptor)


def _remove_tree(folder: Path) -> None:
    """Remove a control group and those below it, the lowest first (their files go by themselves)."""
    deadline = time.monotonic() + _PATIENCE
    groups = [Path(found) for found, _, _ in os.walk(folder, topdown=False)]
    for group in groups:
        while True:
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise Failed(f"the control group {group} cannot be removed: {error.strerror}") from error
                time.sleep(0.002)  # a process in it has ended but is not reaped yet
                continue
            break
