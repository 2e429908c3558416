"""The record of one instance in its run folder: what was decided before the act, and how far it came.

The file is written before anything is made, so that whatever a crash leaves can be found and taken away.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address

from stelae.platforms.local.place import Place
from stelae.platforms.local.process import ProcessId
from stelae.system.files import write_atomic


class Stage(StrEnum):
    """How far a launch came."""

    PREPARING = "preparing"  # things are being made
    CREATED = "created"  # the container exists; its program may or may not have been started
    STARTED = "started"  # the program was started


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One instance's address and runtime; from CREATED on also its first process and its conmon."""

    stage: Stage
    address: IPv4Address
    runtime: str
    process: ProcessId | None = None
    conmon: ProcessId | None = None

    def at(self, stage: Stage) -> Record:
        """Return the record with another stage."""
        return replace(self, stage=stage)


def save(place: Place, record: Record) -> None:
    """Write the record of the instance at *place*."""
    content = asdict(record) | {"address": str(record.address)}
    write_atomic(place.record, json.dumps(content).encode(), durable=False)


def load(place: Place) -> Record | None:
    """Return the record at *place*; None when there is none, or none that can be read."""
    try:
        content = json.loads(place.record.read_bytes())
        return Record(
            stage=Stage(content["stage"]),
            address=IPv4Address(content["address"]),
            runtime=str(content["runtime"]),
            process=_process(content["process"]),
            conmon=_process(content["conmon"]),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _process(content: dict[str, int] | None) -> ProcessId | None:
    return None if content is None else ProcessId(int(content["pid"]), int(content["started"]))
