"""An image's process definitions as the canonical JSON of its config label."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from stelae.domain.canonical import canonical
from stelae.domain.errors import InvalidInput
from stelae.domain.image import PROCESSES_LABEL
from stelae.domain.process import Process


def encode_processes(processes: tuple[Process, ...]) -> str:
    """Return *processes* as canonical JSON, sorted by name: the same processes give the same text."""
    return canonical([asdict(process) for process in sorted(processes, key=lambda p: p.name)]).decode()


def decode_processes(text: str) -> tuple[Process, ...]:
    """Return the processes that ``encode_processes`` wrote; raises InvalidInput."""
    try:
        return msgspec.json.decode(text, type=tuple[Process, ...])
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"the label {PROCESSES_LABEL} is not a list of processes: {error}") from error
