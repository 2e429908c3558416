"""Watch a process that is being run: its output line by line, and its time, memory and disk.

Memory is held by a control group, or where there is none by each process's own limit of data (setrlimit(2)). The
disk is measured again and again while the process runs, and no file of it can grow beyond the limit in between.
"""

from __future__ import annotations

import re
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from stelae.build.apart import started
from stelae.build.config import PATH
from stelae.build.memory_group import MemoryGroup
from stelae.build.unnamed import unnamed
from stelae.build.upper import FIRST_USER, usage
from stelae.domain.errors import Unreachable
from stelae.domain.recipe import Limits
from stelae.domain.units import MIB, SECOND
from stelae.spec.units import format_duration, format_size
from stelae.system.command import LAST_LINES
from stelae.system.limits import lower

USERS = 65_536

_LONGEST_LINE = 2000
# What programs say that were refused memory: with a limit of each process nothing else tells.
_NO_MEMORY = re.compile(r"out of memory|cannot allocate memory|MemoryError|bad_alloc|memory exhausted", re.IGNORECASE)
_POLL = 0.1  # seconds between two looks at the disk, at least
_SHARE = 4  # looking may take a fifth of the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: its status, its last lines, and which of ``time``, ``memory`` and ``disk`` it went
    beyond (or "")."""

    status: int
    lines: tuple[str, ...]
    beyond: str = ""

    def said(self, who: str, limits: Limits) -> str:
        """Return the sentence about the one of *limits* that *who* went beyond."""
        return {
            "time": f"{who} did not end within {format_duration(limits.time)}",
            "memory": f"{who} needed more than {format_size(limits.memory)} of memory",
            "disk": f"{who} wrote more than {format_size(limits.disk)}",
        }[self.beyond]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a process may do: *upper* is the folder that it writes to, *group* the parent of its control group ("":
    none is made); *clean* is applied to each line before *progress* gets it."""

    limits: Limits
    upper: Path
    group: str = ""
    clean: Callable[[str], str] = field(default=lambda text: text)
    progress: Callable[[str], None] = field(default=lambda _: None)
    mounts: Callable[[], None] | None = None
    """Mounts something in a namespace of the process's own, before it starts."""

    def run(self, argv: Sequence[str], cwd: Path, descriptors: Sequence[int] = ()) -> Ended:
        """Run *argv*, which waits for its users to be mapped (see ``sandbox``); raises Unreachable without tools, and
        what ``mounts`` raises."""
        with (
            MemoryGroup(self.group, self.limits.memory) as memory,
            self._started(memory, lambda: _start(argv, cwd, descriptors)) as process,
        ):
            guard = _Guard(process, self.limits, self.upper)
            try:
                with process:
                    _released(process, memory, self.limits)
                    guard.start()
                    lines = self._lines(process)
            except BaseException:
                process.kill()
                raise
            finally:
                guard.stop()
            return Ended(status=process.returncode, lines=lines, beyond=self._beyond(process, lines, guard, memory))

    def _started(
        self, memory: MemoryGroup, start: Callable[[], subprocess.Popen[bytes]]
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        mounts = self.mounts
        if mounts is None:
            return nullcontext(start())

        def prepare() -> None:
            memory.join()
            mounts()

        return started(prepare, start)

    def _lines(self, process: subprocess.Popen[bytes]) -> tuple[str, ...]:
        lines: list[str] = []
        assert process.stdout is not None
        for data in _beginnings(process.stdout):
            text = self.clean(data.decode("utf-8", "replace").rstrip())[:_LONGEST_LINE]
            if text:
                lines = [*lines[-LAST_LINES + 1 :], text]
                self.progress(f"run: {text}")
        return tuple(lines)

    def _beyond(
        self, process: subprocess.Popen[bytes], lines: tuple[str, ...], guard: _Guard, memory: MemoryGroup
    ) -> str:
        if guard.beyond:
            return guard.beyond
        if memory.exceeded() or (process.returncode != 0 and not memory.made and any(map(_NO_MEMORY.search, lines))):
            return "memory"
        found = usage(self.upper)
        full = found.total > self.limits.disk or (process.returncode != 0 and found.longest >= self.limits.disk)
        return "disk" if full else ""


class _Guard:
    """A thread that ends *process* when it takes too long or writes too much."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, upper: Path) -> None:
        self.beyond = ""
        self._process = process
        self._limits = limits
        self._upper = upper
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="build-guard", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watching."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._limits.time / SECOND
        pause = _POLL
        while not self._over.wait(max(0.0, min(pause, deadline - time.monotonic()))):
            begun = time.monotonic()
            if begun >= deadline:
                self.beyond = "time"
            elif usage(self._upper).total + unnamed(self._process.pid) > self._limits.disk:
                self.beyond = "disk"
            if self.beyond:
                self._process.kill()
                return
            pause = max(_POLL, _SHARE * (time.monotonic() - begun))


def _start(argv: Sequence[str], cwd: Path, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C"}, pass_fds=descriptors,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unreachable("unshare is not installed", hint="stelae doctor says what is missing") from error


def _released(process: subprocess.Popen[bytes], memory: MemoryGroup, limits: Limits) -> None:
    """Limit the process and give the users of its new user namespace their numbers, then let it go on."""
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.peek(1)[:6] != b"ready\n":  # type: ignore[attr-defined]
        return  # it failed: what it says is read as its output
    process.stdout.readline()
    lower(process.pid, resource.RLIMIT_FSIZE, limits.disk)
    if not memory.add(process.pid):
        lower(process.pid, resource.RLIMIT_DATA, limits.memory)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{process.pid}/{name}").write_text(f"0 {FIRST_USER} {USERS}\n")
    process.stdin.write(b"go\n")
    process.stdin.close()


def _beginnings(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of *stream*, of a very long one only the beginning: a command may print without end and
    without a line break."""
    inside = False
    while data := stream.readline(MIB):
        if not inside:
            yield data
        inside = not data.endswith(b"\n")
