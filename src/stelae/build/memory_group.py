"""A control group that limits the memory of what runs in it, on cgroup v1 and v2.

Source: the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/memory.rst.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path("/sys/fs/cgroup")

_PREFIX = "build-"
_PATIENCE = 5.0  # seconds that killed processes may take to be gone
_numbers = itertools.count()


class MemoryGroup:
    """A group of at most *limit* bytes below *parent* (a path such as ``/stelae``, from the hierarchy's root).

    Without a parent none is made. ``made`` says whether there is one: a host, or a container, may have no controller
    of memory.
    """

    def __init__(self, parent: str, limit: int, root: Path = ROOT) -> None:
        self._unified = (root / "cgroup.controllers").exists()
        top = root if self._unified else root / "memory"
        self._limit = limit
        self._parent = top / parent.strip("/")
        self._folder = self._parent / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
        self._top = top
        self._joined = False
        self.made = False

    def __enter__(self) -> MemoryGroup:
        if self._parent == self._top:
            return self
        try:
            if self._unified:
                self._make_unified()
            else:
                self._make()
            self.made = True
        except OSError:
            self._remove(self._folder)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self.made:
            self._remove(self._folder)

    def join(self) -> None:
        """Put the calling thread in, on cgroup v1, so that what it starts is in: a thread that moves itself need not
        wait for all others of the machine, as the move of a process does (5 to 15 ms). It ends before the group."""
        if self.made and not self._unified:
            with suppress(OSError):
                (self._folder / "tasks").write_text("0")
                self._joined = True

    def add(self, pid: int) -> bool:
        """Put the process *pid* in, if what started it was not, and say whether it is in."""
        if self._joined or not self.made:
            return self._joined
        try:
            (self._folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def exceeded(self) -> bool:
        """Say whether the kernel ended a process for want of memory."""
        name = "memory.events" if self._unified else "memory.oom_control"
        with suppress(OSError, ValueError):
            for line in (self._folder / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value) > 0
        return False

    def _make(self) -> None:
        if not (self._top / "memory.limit_in_bytes").exists():
            raise FileNotFoundError(self._top)
        self._clean()
        self._folder.mkdir(parents=True)
        (self._folder / "memory.limit_in_bytes").write_text(str(self._limit))
        with suppress(OSError):  # not every kernel counts swap
            (self._folder / "memory.memsw.limit_in_bytes").write_text(str(self._limit))

    def _make_unified(self) -> None:
        self._parent.mkdir(parents=True, exist_ok=True)
        self._clean()
        for folder in (*reversed([p for p in self._parent.parents if p.is_relative_to(self._top)]), self._parent):
            if "memory" not in (folder / "cgroup.subtree_control").read_text().split():
                (folder / "cgroup.subtree_control").write_text("+memory")
        self._folder.mkdir()
        (self._folder / "memory.max").write_text(str(self._limit))
        (self._folder / "memory.oom.group").write_text("1")
        with suppress(OSError):
            (self._folder / "memory.swap.max").write_text("0")

    def _clean(self) -> None:
        """Remove the groups of builders that are no more."""
        for folder in self._parent.glob(f"{_PREFIX}*-*"):
            owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if owner.isdigit() and not Path("/proc", owner).exists():
                with suppress(OSError):
                    folder.rmdir()

    @staticmethod
    def _remove(folder: Path) -> None:
        deadline = time.monotonic() + _PATIENCE
        while folder.exists() and time.monotonic() < deadline:
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.0005)  # a process or thread in it has ended but is not gone yet
