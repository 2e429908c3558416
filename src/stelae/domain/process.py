"""Processes: the kinds of thing that an image runs. They are part of the image, not of an environment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.units import MIB, SECOND, Duration


class Probe(StrEnum):
    """How an instance shows that it is ready."""

    HTTP = "http"  # GET path answers 2xx or 3xx
    TCP = "tcp"  # the port accepts a connection
    RUNNING = "running"  # the process runs


class Moves(StrEnum):
    """When a process without a port changes over to the new release."""

    WITH_TRAFFIC = "with-traffic"
    AFTER_TRAFFIC = "after-traffic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How and how often an instance is asked whether it is ready. ``start`` is the start deadline."""

    probe: Probe
    path: str = ""
    interval: Duration = SECOND
    timeout: Duration = 2 * SECOND
    start: Duration = 30 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """A writable, size-limited memory file system at ``path``: noexec, nosuid, nodev."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One kind of thing that an image runs.

    ``drain`` is how long an instance may finish its open connections after its traffic has moved;
    ``stop`` how long it may take to end after SIGTERM, before SIGKILL. ``cpu`` is in thousandths of a
    core, 0 for no limit; ``memory`` in bytes.
    """

    name: str
    command: tuple[str, ...]
    health: Health
    port: int | None = None
    drain: Duration = 30 * SECOND
    stop: Duration = 10 * SECOND
    memory: int = 256 * MIB
    cpu: int = 0
    pids: int = 256
    tmpfs: tuple[Tmpfs, ...] = ()
    moves: Moves = Moves.AFTER_TRAFFIC
