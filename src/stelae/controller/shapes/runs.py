"""The shapes of answers about runs of jobs and commands."""

from __future__ import annotations

from typing import Literal, TypedDict

from stelae.controller.shapes.common import Count, Digest, Time


class DebugSession(TypedDict):
    """What only a debug session has: which ``instance`` it is a copy of, why it was asked for, whether it was
    ``lent`` tools that its image has not, whether it has a ``terminal``, and how long it may take."""

    instance: str
    process: str
    reason: str
    lent: bool
    terminal: bool
    limit: Count


class Shown(TypedDict):
    """What a debug session wrote, in base64, and to which ``stream``; or ("" then) that so many bytes of what was
    typed have reached it."""

    stream: Literal["", "stdout", "stderr"]
    data: str
    typed: Count


class Run(TypedDict):
    """A run: of a ``job`` of the release, or ("" then) of a ``command``; for a deployment, before its traffic (step
    0) or as the gate of a step, or for a person (``deployment`` is "" then). ``status`` is its exit status, 128 + n
    when signal n ended it, and null when it never ran or nobody knows; ``lines`` are the last that it wrote."""

    run: str
    environment: str
    job: str
    command: list[str]
    release: str
    image: Digest
    deployment: str
    step: Count
    actor: str
    requested_at: Time
    launched_at: Time | None
    ended_at: Time | None
    outcome: Literal["", "succeeded", "failed", "timed out", "cancelled", "ended", "unknown"]
    reason: str
    status: int | None
    lines: list[str]
    irreversible: bool
    debug: DebugSession | None


class Crossed(TypedDict):
    """The run of a job that cannot be undone, which a request would go back across; ``text`` says it in words."""

    run: str
    job: str
    release: str
    at: Time
    text: str


class PlannedJob(TypedDict):
    """A job that a deployment would run before its traffic."""

    name: str
    command: list[str]
    irreversible: bool
