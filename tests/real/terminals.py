"""Programs at a pseudo-terminal, as a person runs them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence


class AtTerminal:
    """A program at a terminal of its own; ``said`` is all that it wrote. A context manager, which ends it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], size: tuple[int, int] = (31, 97)) -> None:
        self._terminal, self._other = pty.openpty()
        self.resize(*size)
        self.before = self.modes()
        self.program = subprocess.Popen(
            command, stdin=self._other, stdout=self._other, stderr=self._other, start_new_session=True,
            env={**os.environ, **env}, preexec_fn=_own_terminal,
        )  # fmt: skip
        self.said = b""

    def __enter__(self) -> AtTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()
        self.program.wait(10)
        self.hang_up()

    def modes(self) -> list[object]:
        """How the terminal treats what is typed and shown."""
        return list(termios.tcgetattr(self._other))

    def resize(self, rows: int, columns: int) -> None:
        """As the window of a terminal is made larger or smaller: the kernel tells the programs in it."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._terminal, text.encode())

    def type_until(self, text: str, shown: str) -> None:
        """Type *text* until *shown* is shown: what is typed while no controller is there is lost."""
        for _ in range(20):
            self.type(text)
            try:
                self.until(shown, 1)
            except AssertionError:
                continue
            return
        self.until(shown)

    def until(self, text: str, seconds: float = 20) -> str:
        """Read until *text* is shown; return what was shown since the last time, with it."""
        begun, deadline = len(self.said), time.monotonic() + seconds
        while text.encode() not in self.said[begun:]:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not shown: {self.said.decode(errors='replace')}"
            if select.select([self._terminal], [], [], left)[0]:
                try:
                    self.said += os.read(self._terminal, 65536)
                except OSError as error:
                    raise AssertionError(f"it ended, and said {self.said!r}") from error
        return self.said[begun:].decode(errors="replace")

    def until_raw(self, seconds: float = 20) -> None:
        """Wait until each key goes to the program as it is."""
        deadline = time.monotonic() + seconds
        while self.modes() == self.before:
            assert time.monotonic() < deadline, "the terminal is as it was"
            time.sleep(0.01)

    def ended(self, seconds: float = 20) -> int:
        """Read to the end of the program, and return its exit status."""
        deadline = time.monotonic() + seconds
        while self.program.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {self.said!r}"
            self._read()
        self._read()
        return self.program.returncode

    def _read(self) -> None:
        while select.select([self._terminal], [], [], 0.05)[0]:
            self.said += os.read(self._terminal, 65536)

    def hang_up(self) -> None:
        """As a window of a terminal is closed."""
        for descriptor in (self._terminal, self._other):
            try:
                os.close(descriptor)
            except OSError:
                continue


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
