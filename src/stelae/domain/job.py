"""Jobs: programs of an image that end. They are part of the image, as its processes are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.process import Health, Probe, Process, Tmpfs
from stelae.domain.units import MIB, MINUTE, SECOND, Duration

GRACE: Duration = 10 * SECOND
"""How long a run may take to end after SIGTERM, before SIGKILL."""

DEFAULT_TIMEOUT: Duration = 10 * MINUTE


class When(StrEnum):
    """What makes a job run."""

    BEFORE_TRAFFIC = "before-traffic"  # each deployment, before anything of its release is launched
    ON_DEMAND = "on-demand"  # a person, or a gate of a strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A program of an image that ends, with status 0 when all went well. It is part of the image.

    ``timeout`` is how long it may take; ``irreversible`` says that what it did stays when the release goes:
    going back across it asks. ``cpu`` is in thousandths of a core, 0 for no limit; ``memory`` in bytes.
    """

    name: str
    command: tuple[str, ...]
    when: When = When.ON_DEMAND
    timeout: Duration = DEFAULT_TIMEOUT
    irreversible: bool = False
    memory: int = 256 * MIB
    cpu: int = 0
    pids: int = 256
    tmpfs: tuple[Tmpfs, ...] = ()

    @property
    def process(self) -> Process:
        """The job as what an engine starts."""
        return Process(
            name=self.name, command=self.command, health=Health(probe=Probe.RUNNING), stop=GRACE,
            memory=self.memory, cpu=self.cpu, pids=self.pids, tmpfs=self.tmpfs,
        )  # fmt: skip
