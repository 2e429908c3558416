"""An image's processes and jobs as the canonical JSON of its config's labels."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from stelae.domain.canonical import canonical
from stelae.domain.errors import InvalidInput
from stelae.domain.image import JOBS_LABEL, PROCESSES_LABEL
from stelae.domain.job import Job
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


def encode_jobs(jobs: tuple[Job, ...]) -> str:
    """Return *jobs* as canonical JSON, in their order, which is that in which they run before the traffic."""
    return canonical([asdict(job) for job in jobs]).decode()


def decode_jobs(text: str) -> tuple[Job, ...]:
    """Return the jobs that ``encode_jobs`` wrote; raises InvalidInput."""
    try:
        return msgspec.json.decode(text, type=tuple[Job, ...])
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"the label {JOBS_LABEL} is not a list of jobs: {error}") from error
