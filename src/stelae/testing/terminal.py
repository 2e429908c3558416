"""The terminal of a simulated debug session: its program says again each line that it reads, as ``got LINE``, ends
with status N on the line ``exit N``, and with 0 at the end of its input."""

from __future__ import annotations

import asyncio

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.testing.machine import Machine

_SOON = 0.05
"""Seconds between two looks at whether it has ended, however that came."""


class SimulatedTerminal:
    """Implements ``stelae.platforms.port.Terminal``."""

    def __init__(self, machine: Machine, environment: EnvironmentId, instance: InstanceId) -> None:
        self._machine = machine
        self._environment = environment
        self._instance = instance
        self._line = b""
        self._said: list[bytes] = []

    async def read(self) -> tuple[str, bytes] | None:
        """See ``Terminal.read``."""
        while not self._said:
            thing = self._machine.site(self._environment).things.get(self._instance)
            if thing is None or thing.ended is not None:
                return None
            await asyncio.sleep(_SOON)
        return "stdout", self._said.pop(0)

    async def write(self, data: bytes) -> None:
        """See ``Terminal.write``."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"exit":
                self._machine.end(self._environment, self._instance, int(number or b"0"))
                return
            self._said.append(b"got " + line + b"\n")

    async def end(self) -> None:
        """See ``Terminal.end``."""
        self._machine.end(self._environment, self._instance, 0)

    async def resize(self, rows: int, columns: int) -> None:
        """See ``Terminal.resize``; nothing here has a size."""

    def close(self) -> None:
        """See ``Terminal.close``."""
