"""Processes of git for the command line, without Python's ``subprocess``, which takes as long to import as git works.

Source: posix_spawn(3). What a process says on its standard error goes to a file in memory, so that it never waits for
a reader; its standard output is a pipe.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from stelae.domain.errors import Unreachable

_KILL = 9
# Python ignores these two, and what it starts would inherit that: SIGPIPE and SIGXFSZ.
_IGNORED = (13, 25)


class Process:
    """``git WORDS`` in *folder*, running; ``stdin`` and ``stdout`` are its pipes. Raises Unreachable without git."""

    def __init__(self, folder: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        outs, ins = os.pipe(), os.pipe()
        self._said = os.memfd_create("git")
        actions = [
            (os.POSIX_SPAWN_DUP2, ins[0], 0), (os.POSIX_SPAWN_DUP2, outs[1], 1), (os.POSIX_SPAWN_DUP2, self._said, 2),
        ]  # fmt: skip
        self._status: int | None = None
        self.stdin = os.fdopen(ins[1], "wb")
        self.stdout = os.fdopen(outs[0], "rb")
        try:
            self._pid = os.posix_spawnp(
                "git", ["git", "-C", folder, *words], environment, file_actions=actions, setsigdef=_IGNORED
            )
        except OSError as error:
            self._close()
            raise Unreachable("git is not installed", hint="install git, then try again") from error
        finally:
            os.close(ins[0])
            os.close(outs[1])

    def output(self) -> tuple[int, bytes, bytes]:
        """Return the status, and what it wrote on its standard output and error; it is given no more input."""
        with suppress(BrokenPipeError):
            self.stdin.close()
        out = self.stdout.read()
        status, said = self.wait(), self.said()
        self._close()
        return status, out, said

    def wait(self) -> int:
        """Return the status when it has ended; minus the number of the signal that ended it."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status

    def said(self) -> bytes:
        """Return what it has written on its standard error."""
        return os.pread(self._said, os.fstat(self._said).st_size, 0)

    def end(self) -> None:
        """End it, whatever it was doing."""
        if self._status is None:
            os.kill(self._pid, _KILL)
            self.wait()
        self._close()

    def _close(self) -> None:
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
