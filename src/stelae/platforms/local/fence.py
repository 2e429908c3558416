"""The fence of one machine: only the controller with the highest number acts on it.

A number is the index of the controller's own start in the record, so that a later controller always has a higher
one. In the folder there is a file for each controller that may still act, named by its number, with its process id
in it; the highest name counts. Whoever acts holds a shared lock on its file for as long as the act takes, and looks
for a higher one after it has the lock. A new controller makes its file first, and takes the others away when it gets
their locks alone: from then on no act of an earlier one is under way, and none begins, however long it slept.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.errors import Conflict

PATIENCE = 10.0
"""Seconds within which the acts of an earlier controller must have ended."""

_POLL = 0.02


class Fence:
    """The right of the controller with *number* to act; *folder* goes with a power-off, as all controllers do."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number

    def raise_(self, patience: float = PATIENCE) -> None:
        """Keep every controller with a lower number from acting; returns when none of their acts is under way.

        Raises Conflict when there is a higher number, or an act that does not end within *patience* seconds.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path(self._number).write_text(str(os.getpid()))
        self._check()
        deadline = time.monotonic() + patience
        for number in self._numbers():
            if number < self._number:
                self._await_end(number, deadline)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Act inside. Raises Conflict when a later controller has raised the fence; then nothing may be done."""
        try:
            descriptor = os.open(self._path(self._number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._refusal() from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self._refusal() from error
            self._check()
            yield
        finally:
            # By name: a process that is just being started shares the descriptor until it has begun.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _await_end(self, number: int, deadline: float) -> None:
        path = self._path(number)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        holder = path.read_text()
                        raise Conflict(
                            f"an act of an earlier controller, process {holder}, is under way and does not end",
                            hint=f"end that process (kill -9 {holder}), then start again",
                        ) from None
                    time.sleep(_POLL)
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _check(self) -> None:
        if max(self._numbers(), default=-1) != self._number:
            raise self._refusal()

    def _refusal(self) -> Conflict:
        return Conflict(
            "another controller has taken over this machine; this one may not act any more",
            hint="see which one it is: stelae status",
        )

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / str(number)
